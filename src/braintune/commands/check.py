"""``braintune check``."""

from typing import Annotated

import typer

from braintune.commands.options import (
    AsJson,
    CohortPath,
    Filters,
    Workers,
    print_json,
    print_line,
)

NAME = "check"
HELP = """Audit a cohort: who is in it, what is broken, what gives the target away.

Exits with 2 if something must be mended. What you know of and accept becomes a caution: name the
beginning of its text with --accept.

Example: braintune check cohort --target dx --accept left-handed
"""


def run(
    cohort: CohortPath,
    target: Annotated[str | None, typer.Option(help="The column to predict.")] = None,
    filters: Filters = None,
    accept: Annotated[
        list[str] | None, typer.Option(help="Beginning of a problem to accept. Repeatable.")
    ] = None,
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Audit a cohort."""
    from braintune.cohort.read import parse_filters, read_cohort
    from braintune.imaging.audit import audit_cohort
    from braintune.recipe import ScansRecipe
    from braintune.registry import parse
    from braintune.reporting.audit_text import audit_document, audit_text

    scans = parse(ScansRecipe, parse_filters(filters or []), "filter")
    audit = audit_cohort(
        read_cohort(cohort, scans), target, accept=tuple(accept or []), workers=workers
    )
    if as_json:
        print_json(audit_document(audit))
    else:
        print_line(audit_text(audit))
    if audit.problems:
        raise typer.Exit(2)
