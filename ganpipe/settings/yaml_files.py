"""YAML as ganpipe reads and writes it: the scalars of YAML 1.2's core schema, and nothing that a stranger could abuse.

PyYAML reads YAML 1.1, in which 010 is 8, 1:30 is 90 and `no` is false. Here only `true` and `false` are booleans, 010 is
10, 0o10 is 8, and 1:30 and 2026-01-01 are text. Duplicate keys, tags, deep nesting, and aliases of anything but a scalar
are refused.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from ganpipe.errors import GanpipeError

MAX_BYTES = 2**20  # of a file: settings and pointers have a few kilobytes
MAX_DEPTH = 32  # of nesting
MAX_DIGITS = 400  # of a number; what is longer stays text, because Python refuses it or it is not finite
PREFIX = "tag:yaml.org,2002:"
DOCUMENT = "the document"

# YAML 1.2.2, section 10.3.2. The first characters are PyYAML's index.
CORE_SCHEMA = (
    ("null", r"null|Null|NULL|~|", ["n", "N", "~", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
)


class _Loader(yaml.SafeLoader):
    """Builds the tree of a document; `_value` makes values of it."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  (PyYAML's own name)
    depth = 0

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        """A node, unless it lies too deep or repeats a collection: ten lines of aliases can stand for a billion values."""
        is_alias, mark = self.check_event(yaml.AliasEvent), self.peek_event().start_mark
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise GanpipeError(f"line {mark.line + 1} nests deeper than {MAX_DEPTH} levels")
        node = super().compose_node(parent, index)
        self.depth -= 1
        if is_alias and not isinstance(node, ScalarNode):
            raise GanpipeError(f"line {mark.line + 1} has an alias of a collection; write it out")
        return node


class _Dumper(yaml.SafeDumper):
    """Quotes text that YAML 1.1 or 1.2 would read as something else, and writes no aliases."""

    def ignore_aliases(self, data: object) -> bool:
        return True


for _kind, _pattern, _first in CORE_SCHEMA:
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"{PREFIX}{_kind}", re.compile(f"(?:{_pattern})\\Z"), _first)


def read_yaml(path: Path) -> Any:
    """The value in a YAML file; None if it is empty.

    Raises:
        GanpipeError: no regular file, too large, not UTF-8, or as `parse_yaml`; the sentence names the file.
    """
    try:
        info = path.stat()
        if not stat.S_ISREG(info.st_mode):  # a FIFO would hang
            raise GanpipeError(f"{path} is no regular file; it must be a YAML file.")
        if info.st_size > MAX_BYTES:
            raise GanpipeError(f"{path} has {info.st_size:,} bytes; at most {MAX_BYTES:,} are read.")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise GanpipeError(f"{path} cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError:
        raise GanpipeError(f"{path} is not valid YAML: it is not UTF-8 text.") from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, name: str) -> Any:
    """The value of a YAML document, whose source is called `name` in errors.

    Raises:
        GanpipeError: not YAML, or one of what is refused (see the module); one sentence with the key or the line.
    """
    try:
        return parse_document(text)
    except yaml.YAMLError as error:
        raise GanpipeError(f"{name} is not valid YAML: {_problem(error)}.") from None
    except GanpipeError as error:
        raise GanpipeError(f"{name} cannot be read: {error}.") from None


def _problem(error: yaml.YAMLError) -> str:
    """Describes the error and gives its line number; leaves out the line itself, which may hold a secret."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        return f"{error.problem or error.context} in line {error.problem_mark.line + 1}"
    return " ".join(str(error).split())


def parse_document(text: str) -> Any:
    """As `parse_yaml`, but half sentences for what is refused, and yaml.YAMLError for what is not YAML."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
    finally:
        loader.dispose()
    return None if node is None else _value(node, DOCUMENT)


def _value(node: Node, key: str) -> Any:
    """`key`: where the node stands, such as training.seed."""
    kind = node.tag.removeprefix(PREFIX)
    if isinstance(node, MappingNode) and kind == "map":
        return _mapping(node, "" if key == DOCUMENT else f"{key}.")
    if isinstance(node, SequenceNode) and kind == "seq":
        return [_value(item, f"{key}[{k}]") for k, item in enumerate(node.value)]
    if isinstance(node, ScalarNode) and kind == "str":
        return str(node.value)
    if isinstance(node, ScalarNode) and kind in READERS:
        return parse_scalar(node.value)
    raise GanpipeError(f"{key} has the tag {node.tag.replace(PREFIX, '!!')}, which is not allowed")


def _mapping(node: MappingNode, prefix: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, content in node.value:
        if not isinstance(name, ScalarNode):
            raise GanpipeError(f"line {name.start_mark.line + 1} has a key that is no word")
        key = f"{prefix}{name.value}"
        if name.value in values:
            raise GanpipeError(f"{key} stands there twice, again in line {name.start_mark.line + 1}")
        values[name.value] = _value(content, key)
    return values


def parse_scalar(text: str) -> Any:
    """The value of a plain scalar: None, a boolean, a number, or the text itself."""
    if len(text) > MAX_DIGITS:
        return text
    for kind, pattern, _ in CORE_SCHEMA:
        if re.fullmatch(pattern, text):
            return READERS[kind](text)
    return text


READERS: dict[str, Callable[[str], Any]] = {
    "null": lambda text: None,
    "bool": lambda text: text.lower() == "true",
    "int": lambda text: int(text, {"0o": 8, "0x": 16}.get(text[:2], 10)),
    "float": lambda text: float(re.sub(r"\.(?=[inIN])", "", text)),
}


def dump_yaml(value: Any, sort_keys: bool = False) -> str:
    """`value` as YAML that reads back the same here, and in readers of YAML 1.1 and 1.2."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=sort_keys)
