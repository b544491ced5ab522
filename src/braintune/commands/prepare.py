"""``braintune prepare``."""

from pathlib import Path
from typing import Annotated

import typer

from braintune.commands.options import (
    AsJson,
    CohortPath,
    ExcludeBroken,
    Excluded,
    Filters,
    Overrides,
    Workers,
    print_json,
    print_line,
)

NAME = "prepare"
HELP = """Turn scans into a prepared store, with a contact sheet to look at.

Takes scans that are in one space already. What is in the store is not done again, so the same
command goes on after an interruption.

Example: braintune prepare cohort store --set spacing=2 --set shape=[80,96,80]
"""


def run(
    cohort: CohortPath,
    out: Annotated[Path, typer.Argument(help="Folder of the store.")],
    recipe: Annotated[
        Path | None, typer.Option(help="Take 'prepare:' and 'scans:' of this recipe.")
    ] = None,
    overrides: Overrides = None,
    filters: Filters = None,
    exclude: Excluded = None,
    exclude_broken: ExcludeBroken = False,
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Prepare a cohort."""
    from braintune.cohort.read import parse_filters, read_cohort
    from braintune.fitting.starting import settle
    from braintune.imaging.prepare import exclusions_text, prepare
    from braintune.recipe import Recipe, change_preparation
    from braintune.reporting.contact_sheet import write_contact_sheet

    chosen = settle(Recipe.read(recipe)) if recipe is not None else None
    scans, preparation = change_preparation(chosen, overrides or [], parse_filters(filters or []))
    subjects = read_cohort(cohort, scans).exclude(exclude or [], "excluded by --exclude")
    prepared = prepare(subjects, out, preparation, workers=workers, exclude_broken=exclude_broken)
    sheet = out / "contact_sheet.png"
    write_contact_sheet(sheet, prepared.store, prepared.cohort.scan_ids)
    left_out = prepared.cohort.exclusions
    if as_json:
        print_json(
            {
                "out": str(out),
                "fingerprint": prepared.store.fingerprint,
                "scans": len(prepared.cohort),
                "made": prepared.made,
                "contact_sheet": str(sheet),
                "excluded": [{"id": item.id, "reason": item.reason} for item in left_out],
            }
        )
        return
    print_line(f"{len(prepared.cohort)} scans in {out}, {prepared.made} of them new. See {sheet}.")
    if left_out:
        print_line(f"Left out:\n{exclusions_text(left_out)}")
