"""``braintune evaluate``."""

from pathlib import Path
from typing import Annotated

import typer

from braintune.commands.options import AsJson, Excluded, Filters, Workers, print_json, print_line

NAME = "evaluate"
HELP = """Score a finished run on an external cohort, zero-shot.

The networks of all folds are averaged and nothing is fitted anew: operating points come from the
run's validation rows, the baselines see the run's table. Sites, sexes and age bands are scored
apart, and calibration stands beside the run's own. A subject or a scan that was in the run is
refused. Each opening is noted in the run's ledger.

Example: braintune evaluate runs/ad --cohort OASIS3 --out runs/ad-oasis3 --robustness
"""


def run(
    run: Annotated[Path, typer.Argument(help="A finished run.")],
    cohort: Annotated[Path, typer.Option(help="The external cohort, with the target.")],
    out: Annotated[Path, typer.Option(help="A new folder.")],
    filters: Filters = None,
    exclude: Excluded = None,
    points: Annotated[
        list[str] | None,
        typer.Option(
            "--operating-point",
            help="youden, sensitivity=0.9, specificity=0.9 or a probability. Repeatable.",
        ),
    ] = None,
    age_bands: Annotated[
        str, typer.Option(help="Ages at which one band ends and the next begins.")
    ] = "20,40,60,80",
    robustness: Annotated[
        bool, typer.Option("--robustness", help="Score scans that are made worse on purpose, too.")
    ] = False,
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate."""
    from braintune.cohort.read import parse_filters, read_cohort
    from braintune.evaluation.subgroups import parse_bands
    from braintune.fitting.model import open_model
    from braintune.recipe import ScansRecipe
    from braintune.registry import parse
    from braintune.reporting.evaluation_report import write_evaluation_report
    from braintune.reporting.evaluation_text import evaluation_text
    from braintune.studies.evaluate import Questions, evaluate

    questions = Questions(tuple(points or ()), parse_bands(age_bands), robustness)
    scans = open_model(run).recipe.scans
    if filters:
        scans = parse(ScansRecipe, parse_filters(filters), "filter")
    external = read_cohort(cohort, scans)
    if exclude:
        external = external.exclude(exclude, "left out by --exclude")
    document = evaluate(run, external, out, workers, questions)
    page = write_evaluation_report(out)
    if as_json:
        print_json({"out": str(out), "page": str(page), **document})
    else:
        print_line(evaluation_text(document, page))
