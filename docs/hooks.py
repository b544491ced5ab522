"""What the reference is made of: the help of the commands, and docstrings with their examples."""

from typing import Any

import griffe
import typer

from braintune.commands.main import app

_MARK = "<!-- commands -->"
_WIDTH = 88


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the help of every command where a page has the mark."""
    if _MARK not in markdown:
        return markdown
    return markdown.replace(_MARK, "\n".join(_sections(typer.main.get_command(app), None)))


def _sections(command: Any, parent: Any) -> list[str]:
    """A heading and the help of a command, then those of its subcommands."""
    name = "braintune" if parent is None else command.name
    context = command.context_class(command, parent, info_name=name, terminal_width=_WIDTH)
    text = command.get_help(context)
    sections = [f"## {context.command_path}\n\n```text\n{text}\n```\n"]
    for child in getattr(command, "commands", {}).values():
        sections += _sections(child, context)
    return sections


class Examples(griffe.Extension):
    """Have the section "Example:" of a docstring shown as code, as griffe does with "Examples:"."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rename the section of one module, class, function or attribute."""
        if obj.docstring:
            obj.docstring.value = obj.docstring.value.replace("Example:\n", "Examples:\n")
