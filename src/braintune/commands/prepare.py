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
HELP = """Turn scans into a prepared store, with pictures to look at.

Takes scans that are in one space already, or raw heads (--preset mni-2mm), whose brains are found
and brought to MNI152 space; each is measured, and quality.html shows what looks wrong. Diffusion
series become maps of their tensors (--filter suffix=dwi --set dwi.maps=[fa,md]). What is in the
store is not done again, so the same command goes on after an interruption, and may be given on
several machines at once.

Example: braintune prepare cohort store --set spacing=2 --set shape=[80,96,80]
"""


def run(
    cohort: CohortPath,
    out: Annotated[Path, typer.Argument(help="Folder of the store.")],
    recipe: Annotated[
        Path | None, typer.Option(help="Take 'prepare:' and 'scans:' of this recipe.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="A preparation of raw heads by its name, such as mni-2mm.")
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(help="Spacing, shape and intensities of these weights, backbone.tag."),
    ] = None,
    overrides: Overrides = None,
    filters: Filters = None,
    masks: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of fMRIPrep, CAT12 or FreeSurfer with brain masks. Repeatable."),
    ] = None,
    exclude: Excluded = None,
    exclude_broken: ExcludeBroken = False,
    exclude_flagged: Annotated[
        bool, typer.Option(help="Leave out raw heads that look wrong, and name them.")
    ] = False,
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Prepare a cohort."""
    from braintune.cohort.read import parse_filters, read_cohort
    from braintune.fitting.starting import changes_like, settle
    from braintune.imaging.masks.found import with_masks
    from braintune.recipe import Recipe, change_preparation
    from braintune.reporting.preparation_report import prepare_and_look
    from braintune.reporting.preparation_text import preparation_document, preparation_text

    chosen = settle(Recipe.read(recipe)) if recipe is not None else None
    changes = [f"preset={preset}"] if preset else []
    changes += changes_like(like) if like else []
    changes += overrides or []
    if masks:
        changes.append("heads.brain=masks")
    scans, preparation = change_preparation(chosen, changes, parse_filters(filters or []))
    subjects = read_cohort(cohort, scans).exclude(exclude or [], "excluded by --exclude")
    looked = prepare_and_look(
        with_masks(subjects, masks) if masks else subjects,
        out,
        preparation,
        workers=workers,
        exclude_broken=exclude_broken,
        exclude_flagged=exclude_flagged,
    )
    if as_json:
        print_json(preparation_document(looked))
    else:
        print_line(preparation_text(looked))
