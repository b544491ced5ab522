"""``braintune fit``."""

from pathlib import Path
from typing import Annotated

import typer

from braintune.commands.options import (
    AsJson,
    ExcludeBroken,
    Excluded,
    Filters,
    Overrides,
    Workers,
    print_json,
    print_line,
)

NAME = "fit"
HELP = """Fit one recipe to a cohort under its protocol, and report how good it is.

Everything is checked before anything is written. After an interruption, the same command goes on
and ends with the same numbers.

Example: braintune fit recipes/brain-age.yaml --cohort cohort --out runs/age --set train.epochs=40
"""


def run(
    recipe: Annotated[Path, typer.Argument(help="The recipe, a YAML file.")],
    cohort: Annotated[Path, typer.Option(help="BIDS dataset, prepared store, or TSV/CSV table.")],
    out: Annotated[Path, typer.Option(help="The run folder.")],
    overrides: Overrides = None,
    filters: Filters = None,
    exclude: Excluded = None,
    exclude_broken: ExcludeBroken = False,
    store: Annotated[
        Path | None, typer.Option(help="Folder of the prepared store; by default in the cache.")
    ] = None,
    workers: Workers = None,
    accelerator: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    devices: Annotated[int, typer.Option(help="Processes that fit together on a node.")] = 1,
    nodes: Annotated[int, typer.Option(help="Computers that fit together.")] = 1,
    feature_cache: Annotated[
        float, typer.Option(help="Gigabytes on the disk for activations of frozen layers.")
    ] = 10.0,
    checkpoint_every: Annotated[float, typer.Option(help="Seconds between checkpoints.")] = 60.0,
    as_json: AsJson = False,
) -> None:
    """Fit a recipe."""
    from braintune.cohort.read import parse_filters, read_cohort
    from braintune.fitting.fit import Execution, fit
    from braintune.recipe import Recipe
    from braintune.reporting.report import write_report
    from braintune.reporting.run_text import run_document, run_text

    filtered = [f"scans.{key}={value}" for key, value in parse_filters(filters or []).items()]
    chosen = Recipe.read(recipe, [*(overrides or []), *filtered])
    subjects = read_cohort(cohort, chosen.scans).exclude(exclude or [], "excluded by --exclude")
    execution = Execution(
        accelerator=accelerator,
        devices=devices,
        workers=workers,
        store=store,
        checkpoint_every=checkpoint_every,
        exclude_broken=exclude_broken,
        nodes=nodes,
        feature_cache=feature_cache,
    )
    finished = fit(chosen, subjects, out, execution)
    write_report(finished.path)
    if as_json:
        print_json(run_document(finished))
    else:
        print_line(run_text(finished))
