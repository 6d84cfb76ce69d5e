"""Commands below a parser."""

from __future__ import annotations

from argparse import ArgumentParser


class Subcommands:
    """The commands of `parser`: each has the options of `everywhere`, and names the function that runs it."""

    def __init__(self, parser: ArgumentParser, everywhere: ArgumentParser, dest: str = "command") -> None:
        self.parser = parser
        self._everywhere = everywhere
        self._parsers = parser.add_subparsers(dest=dest, required=True, metavar="COMMAND")

    def add(self, name: str, run: str, help: str) -> ArgumentParser:
        """Adds a command and returns its parser; `run` is MODULE.FUNCTION in `ganpipe.commands`."""
        sub = self._parsers.add_parser(name, help=help, description=help, parents=[self._everywhere])
        sub.set_defaults(run=run)
        return sub

    def add_group(self, name: str, help: str) -> Subcommands:
        """Adds a command that has commands itself, and returns those."""
        return Subcommands(self._parsers.add_parser(name, help=help), self._everywhere, f"{name}_command")
