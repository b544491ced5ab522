"""``braintune diagnose``."""

from pathlib import Path
from typing import Annotated

import typer

from braintune.commands.options import AsJson, Excluded, Overrides, print_json, print_line

NAME = "diagnose"
HELP = """Tell classes from volumes and metadata, and report how well, by nested cross-validation.

Beside the model stand the trivial baselines and the same model on volumes only and on metadata
only. `braintune predict` applies the run to another table.

Example: braintune diagnose volumes --target dx --labels CN,AD --covariates age,sex --out runs/dx
"""


def run(
    table: Annotated[
        Path,
        typer.Argument(help="Folder of `braintune volumes`, or a TSV/CSV with participant_id."),
    ],
    target: Annotated[str, typer.Option(help="The column to tell.")],
    out: Annotated[Path, typer.Option(help="The run folder.")],
    cohort: Annotated[
        Path | None, typer.Option(help="BIDS dataset or table with further columns of the people.")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="Classes, such as CN,AD; of two, the second is positive.")
    ] = None,
    features: Annotated[
        str | None, typer.Option(help="Volumes, by name or pattern; by default all in mm³.")
    ] = None,
    covariates: Annotated[
        str | None, typer.Option(help="Further columns, such as age,sex,education,mmse,apoe.")
    ] = None,
    model: Annotated[str, typer.Option(help="logistic, svm, forest or boosting.")] = "logistic",
    normalise: Annotated[
        str, typer.Option(help="Take head size out: none, proportion or residual.")
    ] = "none",
    icv: Annotated[str, typer.Option(help="Column of the intracranial volume.")] = "icv_mm3",
    folds: Annotated[int, typer.Option(help="Folds of subjects.")] = 5,
    seed: Annotated[int, typer.Option(help="The same seed gives the same numbers.")] = 0,
    overrides: Overrides = None,
    exclude: Excluded = None,
    as_json: AsJson = False,
) -> None:
    """Diagnose."""
    from braintune.fitting.diagnosis_plan import read_rows
    from braintune.fitting.diagnosis_recipe import DiagnosisRecipe
    from braintune.fitting.diagnosis_work import diagnose_into
    from braintune.reporting.diagnosis_report import write_diagnosis_report
    from braintune.reporting.diagnosis_text import diagnosis_text
    from braintune.reporting.run_text import run_document

    values = {
        "target": target,
        "labels": _words(labels) or None,
        "volumes": _words(features),
        "covariates": _words(covariates),
        "model": model,
        "normalise": normalise,
        "icv": None if normalise == "none" else icv,
        "protocol": {"kind": "cross-validation", "folds": folds},
        "seed": seed,
    }
    for change in overrides or []:
        DiagnosisRecipe.change(values, change)
    recipe = DiagnosisRecipe.parse(values)
    rows = read_rows(table, cohort).exclude(exclude or [], "excluded by --exclude")
    finished = diagnose_into(recipe, rows, out)
    write_diagnosis_report(finished.path)
    if as_json:
        print_json(run_document(finished))
    else:
        print_line(diagnosis_text(finished))


def _words(text: str | None) -> list[str]:
    return [word.strip() for word in (text or "").split(",") if word.strip()]
