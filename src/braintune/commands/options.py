"""Options that several commands share."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from braintune._version import __version__

CohortPath = Annotated[
    Path, typer.Argument(help="BIDS dataset or derivative, prepared store, or TSV/CSV table.")
]
Filters = Annotated[
    list[str] | None,
    typer.Option("--filter", help="Which files of a BIDS dataset, such as desc=brain. Repeatable."),
]
Workers = Annotated[int | None, typer.Option(help="Processes; by default one a core.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
Excluded = Annotated[
    list[str] | None,
    typer.Option("--exclude", help="A subject or scan to leave out. Repeatable."),
]
ExcludeBroken = Annotated[
    bool, typer.Option(help="Leave out scans that can't be prepared, and name them.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change the recipe, such as train.lr=1e-4. Repeatable."),
]


def print_line(text: str) -> None:
    """Write a line to standard output."""
    sys.stdout.write(text + "\n")


def _print_version(wanted: bool) -> None:
    if wanted:
        print_line(__version__)
        raise typer.Exit


def options_of_all(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Take the options that stand before any command."""


def print_json(document: Any) -> None:
    """Write the one document of ``--json``."""
    from braintune.files import json_text

    print_line(json_text(document))
