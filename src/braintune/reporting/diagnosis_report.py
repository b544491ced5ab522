"""The page of a diagnosis, made from its run folder's files alone."""

from pathlib import Path
from typing import Any

import pandas as pd

from braintune._version import __version__
from braintune.cohort.tables import read_table
from braintune.errors import InputError, counted
from braintune.files import read_json, write_text
from braintune.fitting.diagnosis_recipe import DiagnosisRecipe
from braintune.fitting.diagnosis_run import CHOSEN, IMPORTANCE
from braintune.recipe import CrossValidation
from braintune.reporting import figures, findings, participants
from braintune.reporting.class_figures import class_figures
from braintune.reporting.pages import fill
from braintune.run import RunFolder
from braintune.volumetry.classifiers import classifier

_MOST = 15


def write_diagnosis_report(path: Path) -> Path:
    """Write ``report.html`` into a finished diagnosis.

    Returns:
        The page.

    Raises:
        InputError: If the run is not finished.
    """
    run = RunFolder.open(path)
    if not run.is_complete:
        raise InputError(f"{path} is not finished. Give the same diagnose command again.")
    write_text(run.report_file, fill("diagnosis_report.html.j2", _context(run)))
    return run.report_file


def _context(run: RunFolder) -> dict[str, Any]:
    metrics = read_json(run.metrics_file)
    recipe = DiagnosisRecipe.read(run.recipe_file)
    cohort, predictions = read_table(run.cohort_file), read_table(run.predictions_file)
    names = [name.removeprefix("p_") for name in predictions.columns if name.startswith("p_")]
    importance = read_json(run.path / IMPORTANCE)
    return {
        "title": f"{recipe.target}: {recipe.model} on {counted(len(importance), 'column')}",
        "headline": findings.headline(metrics, recipe.target, "", "model"),
        "chance": findings.chance(metrics),
        "comparisons": findings.against_baselines(metrics, "model"),
        "flow": participants.flow(cohort, run.events("excluded")),
        "demographics": participants.demographics(cohort, predictions, recipe.target),
        "metrics": metrics,
        "positive": names[1] if len(names) == 2 else None,
        "figures": _figures(metrics, predictions, names, recipe.target, importance),
        "importance": importance,
        "chosen": read_json(run.path / CHOSEN),
        "methods": methods_text(recipe, metrics, len(importance)),
        "recipe": run.recipe_file.read_text(encoding="utf-8"),
        "environment": read_json(run.environment_file),
    }


def methods_text(recipe: DiagnosisRecipe, metrics: dict[str, Any], columns: int) -> str:
    """What was done, in words that may be copied."""
    head = {
        "none": "",
        "proportion": " Volumes were divided by the intracranial volume.",
        "residual": " Head size was taken out of volumes by the residual method (Buckner et al.,"
        " 2004), with lines fitted on training rows.",
    }[recipe.normalise]
    sites = ""
    if recipe.harmonise is not None:
        kept = f", keeping the effects of {', '.join(recipe.harmonise.keep)}"
        sites = (
            f" Differences between values of {recipe.harmonise.site} were taken out of volumes by"
            f" ComBat (Johnson et al., 2007){kept if recipe.harmonise.keep else ''}, fitted on"
            " training rows without their classes."
        )
    protocol = recipe.protocol
    outer = (
        f"{protocol.folds}-fold cross-validation over {protocol.group.replace('_id', 's')}"
        if isinstance(protocol, CrossValidation)
        else f"a {protocol.kind} protocol"
    )
    return (
        f"{recipe.target} was told from {columns} columns by {classifier(recipe.model).label}."
        f"{head}{sites} Missing numbers were filled with the median, numbers scaled and names"
        f" encoded, all fitted on training rows. Performance was estimated by {outer}; within the"
        f" training rows of each fold, up to {recipe.inner_folds} inner folds of subjects chose"
        " hyperparameters by their log loss. Intervals are"
        f" {round(100 * metrics['interval']['level'])} % {metrics['interval']['method']}"
        f" ({metrics['interval']['resamples']} resamples). Comparisons over folds use the corrected"
        " resampled t-test of Nadeau and Bengio (2003) with Holm's correction. Importance is the"
        f" rise of the log loss when a column is permuted among a fold's test rows"
        f" ({recipe.importance_repeats} times). Analyses were run with braintune {__version__},"
        f" random seed {recipe.seed}."
    )


def _figures(
    metrics: dict[str, Any],
    table: pd.DataFrame,
    names: list[str],
    target: str,
    importance: list[dict[str, Any]],
) -> list[dict[str, str]]:
    """Each with the caption that says what a failure looks like."""
    name = metrics["headline"]
    entries = [metrics["metrics"][name]]
    entries += [baseline["metrics"][name] for baseline in metrics["baselines"].values()]
    labels = ["the model", *[b["label"] for b in metrics["baselines"].values()]]
    shown = [
        {
            "svg": figures.intervals(labels, entries, entries[0]["label"]),
            "caption": "The model above what less is enough for, with 95 % intervals over subjects."
            " If metadata alone reach as far, imaging adds nothing that can be seen here.",
            "wide": "yes",
        },
        {
            "svg": figures.intervals(
                [entry["column"] for entry in importance[:_MOST]],
                [entry["log_loss_rise"] for entry in importance[:_MOST]],
                "rise of the log loss when permuted",
            ),
            "caption": "What columns are worth on test rows. One that others can stand in for has"
            " little importance, though it may know much.",
            "wide": "yes",
        },
    ]
    return [*shown, *class_figures(table, target, names, "model")]
