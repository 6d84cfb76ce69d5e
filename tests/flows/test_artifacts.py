"""The artifacts of a run, as Prefect's page shows them."""

from __future__ import annotations

import pytest

from flows.artifacts import escape_markdown


@pytest.mark.parametrize(
    "text", ["<b>a</b>", "[a](http://x)", "![](x)", "a_b*c*", "`x`", "# a", "a|b", "a\\b"]
)
def test_a_name_with_marks_of_markdown_is_shown_as_it_is(text: str) -> None:
    """Rendered by a real parser, the text is what it was."""
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console(width=200)
    with console.capture() as captured:
        console.print(Markdown(escape_markdown(text)))
    assert captured.get().strip() == text
