"""``braintune evaluate``."""

from pathlib import Path
from typing import Annotated

import typer

from braintune.commands.options import AsJson, Excluded, Filters, Workers, print_json, print_line

NAME = "evaluate"
HELP = """Score a finished run on an external cohort, zero-shot.

The networks of all folds are averaged and nothing is fitted anew: the operating point is that of
the run's validation rows, the baselines see the run's table. A subject or a scan that was in the
run is refused. Each opening is noted in the run's ledger.

Example: braintune evaluate runs/ad --cohort OASIS3 --out runs/ad-oasis3
"""


def run(
    run: Annotated[Path, typer.Argument(help="A finished run.")],
    cohort: Annotated[Path, typer.Option(help="The external cohort, with the target.")],
    out: Annotated[Path, typer.Option(help="A new folder.")],
    filters: Filters = None,
    exclude: Excluded = None,
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate."""
    from braintune.cohort.read import parse_filters, read_cohort
    from braintune.fitting.external import evaluate
    from braintune.fitting.model import open_model
    from braintune.recipe import ScansRecipe
    from braintune.registry import parse
    from braintune.reporting.run_text import evaluation_text

    scans = open_model(run).recipe.scans
    if filters:
        scans = parse(ScansRecipe, parse_filters(filters), "filter")
    external = read_cohort(cohort, scans)
    if exclude:
        external = external.exclude(exclude, "left out by --exclude")
    document = evaluate(run, external, out, workers)
    if as_json:
        print_json({"out": str(out), **document})
    else:
        print_line(evaluation_text(document, out))
