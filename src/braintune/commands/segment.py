"""``braintune segment``."""

from pathlib import Path
from typing import Annotated

import typer

from braintune.commands.options import AsJson, Filters, print_json, print_line

NAME = "segment"
HELP = """Segment scans with a finished run, each in its own voxels, and write a BIDS derivative.

The networks of all folds are averaged. Each scan gets a label map and a picture. Scans in which
nothing was found are named; scans that can't be used are listed, and the command exits with 2.

Example: braintune segment runs/hippocampus new_scans --out segmentations
"""


def run(
    run: Annotated[Path, typer.Argument(help="A finished run, or a copy of its model folder.")],
    scans: Annotated[list[Path], typer.Argument(help="Images, folders, BIDS datasets, tables.")],
    out: Annotated[Path, typer.Option(help="A new folder.")],
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Write the probability of each label too.")
    ] = False,
    filters: Filters = None,
    as_json: AsJson = False,
) -> None:
    """Segment."""
    from braintune.cohort.read import parse_filters
    from braintune.fitting.segmentation.segment import segment
    from braintune.recipe import ScansRecipe
    from braintune.registry import parse
    from braintune.reporting.segmentation_text import segmentation_document, segmentation_text

    chosen = parse(ScansRecipe, parse_filters(filters), "filter") if filters else None
    found = segment(run, scans, out, scans=chosen, with_probabilities=probabilities)
    if as_json:
        print_json(segmentation_document(found, out))
    else:
        print_line(segmentation_text(found, out))
    if found.failed:
        raise typer.Exit(2)
