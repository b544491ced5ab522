"""``braintune predict``."""

from pathlib import Path
from typing import Annotated

import typer

from braintune.commands.options import AsJson, Filters, Workers, print_json, print_line

NAME = "predict"
HELP = """Apply a finished run to new scans and write a BIDS derivative.

Scans are prepared as the run's were; the networks of all folds are averaged. Scans unlike those of
the fit carry a warning. Scans that can't be used are listed, and the command exits with 2.

Example: braintune predict runs/age new_scans --out predictions
"""


def run(
    run: Annotated[Path, typer.Argument(help="A finished run, or a copy of its model folder.")],
    scans: Annotated[list[Path], typer.Argument(help="Images, folders, BIDS datasets, tables.")],
    out: Annotated[Path, typer.Option(help="A new folder.")],
    filters: Filters = None,
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Predict."""
    from braintune.cohort.read import parse_filters
    from braintune.errors import InputError
    from braintune.fitting.diagnosis_predict import predict_diagnosis
    from braintune.fitting.diagnosis_run import is_diagnosis
    from braintune.fitting.predict import predict
    from braintune.recipe import ScansRecipe
    from braintune.registry import parse
    from braintune.reporting.run_text import prediction_document, prediction_text

    chosen = parse(ScansRecipe, parse_filters(filters), "filter") if filters else None
    if is_diagnosis(run):
        if len(scans) > 1:
            raise InputError(f"{run} is a diagnosis: give it one table of volumes.")
        prediction = predict_diagnosis(run, scans[0], out)
    else:
        prediction = predict(run, scans, out, scans=chosen, workers=workers)
    if as_json:
        print_json(prediction_document(prediction, out))
    else:
        print_line(prediction_text(prediction, out))
    if prediction.failed:
        raise typer.Exit(2)
