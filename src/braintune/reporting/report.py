"""The report: one self-contained page, made from a run folder's files alone."""

from pathlib import Path
from typing import Any

from braintune.errors import InputError
from braintune.files import read_json, write_text
from braintune.reporting import figures, findings, participants
from braintune.reporting.class_figures import class_figures
from braintune.reporting.methods import methods_text
from braintune.reporting.pages import embedded, fill
from braintune.reporting.run_files import RunFiles, read_files
from braintune.reporting.segmentation_report import label_map_parts
from braintune.run import RunFolder
from braintune.tasks.segmentation import Segmentation
from braintune.tasks.task import Task


def write_report(path: Path) -> Path:
    """Write ``report.html`` into a finished run.

    Returns:
        The page.

    Raises:
        InputError: If the run is not finished.
    """
    run = RunFolder.open(path)
    if not run.is_complete:
        msg = f"{path} is not finished. Give the same fit command again to finish it."
        raise InputError(msg)
    write_text(run.report_file, render(read_files(run)))
    return run.report_file


def render(files: RunFiles) -> str:
    """The page's HTML; everything that comes from files is escaped."""
    return fill("report.html.j2", _context(files))


def _context(files: RunFiles) -> dict[str, Any]:
    run, metrics = files.run, files.metrics
    recipe = run.recipe
    unit = getattr(files.task, "unit", "")
    parts = label_map_parts(files) if isinstance(files.task, Segmentation) else _value_parts(files)
    return {
        "title": f"{recipe.task.target}: {recipe.backbone.name}, {recipe.adapter.name}",
        "headline": findings.headline(metrics, recipe.task.target, unit),
        "chance": findings.chance(metrics),
        "comparisons": findings.against_baselines(metrics),
        "flow": participants.flow(files.cohort, run.events("excluded")),
        "demographics": participants.demographics(
            files.cohort, files.predictions, recipe.task.target
        ),
        "metrics": metrics,
        "unit": unit,
        **parts,
        "folds": files.folds,
        "openings": len(run.events("test opened")),
        "resumed": len(run.events("resumed")),
        "methods": methods_text(recipe, metrics, files.task, files.weights),
        "weights": files.weights,
        "recipe": run.recipe_file.read_text(encoding="utf-8"),
        "environment": read_json(run.environment_file),
    }


def _value_parts(files: RunFiles) -> dict[str, Any]:
    """What is shown of predictions of one value a scan."""
    return {
        "figures": _figures(files),
        "cases": _cases(files),
        "positive": _positive_class(files.values),
    }


def _positive_class(task: Task) -> str | None:
    """The class that sensitivity and the like speak of, where there are two."""
    return task.columns()[1].removeprefix("p_") if task.n_outputs == 2 else None


def _figures(files: RunFiles) -> list[dict[str, str]]:
    """Each with the caption that says what a failure looks like."""
    metrics, task = files.metrics, files.values
    name = metrics["headline"]
    methods = [metrics["metrics"][name]]
    methods += [baseline["metrics"][name] for baseline in metrics["baselines"].values()]
    labels = ["the network", *[b["label"] for b in metrics["baselines"].values()]]
    shown = [
        {
            "svg": figures.intervals(labels, methods, methods[0]["label"]),
            "caption": "The network above what is predicted without the images, with 95 % intervals"
            " over subjects. A network that has learnt something stands clear of the others.",
            "wide": "yes",
        }
    ]
    draw = _regression_figures if task.n_outputs == 1 else _classification_figures
    shown += draw(files)
    shown.append(
        {
            "svg": figures.learning_curves(files.histories),
            "caption": "Loss of each fold on training rows (with augmentation) and validation rows."
            " Validation that rises while training falls is overfitting; two flat lines are a"
            " network that learns nothing.",
        }
    )
    return shown


def _regression_figures(files: RunFiles) -> list[dict[str, str]]:
    target = files.values.target
    table = files.predictions
    truth = table[target].astype("float64").to_numpy()
    predicted = table[f"predicted_{target}"].astype("float64").to_numpy()
    adjusted = None
    if (column := f"adjusted_{target}") in table.columns:
        adjusted = table[column].astype("float64").to_numpy()
    return [
        {
            "svg": figures.predicted_against_true(truth, predicted, target),
            "caption": "Out-of-fold predictions. A cloud flatter than the dotted line is pulled to"
            " the mean; a horizontal one has learnt nothing.",
        },
        {
            "svg": figures.gap_against_true(truth, predicted, adjusted, target),
            "caption": "The gap over the true value. A falling line is the pull to the mean; the"
            " adjustment, fitted on validation rows, should lay it flat.",
        },
    ]


def _classification_figures(files: RunFiles) -> list[dict[str, str]]:
    task = files.values
    names = [column.removeprefix("p_") for column in task.columns()]
    return class_figures(files.predictions, task.target, names, "network")


def _cases(files: RunFiles) -> list[dict[str, str]]:
    """The scans with the largest errors, with their slices as data in the page."""
    rows = files.predictions.set_index("scan_id")
    shown = []
    for case in read_json(files.run.cases_file):
        picture = files.run.cases_file.parent / Path(case["picture"]).name
        row = rows.loc[case["scan_id"]]
        answers = [
            f"{column.removeprefix('predicted_').removeprefix('p_')} {float(row[column]):.3g}"
            for column in files.values.columns()
        ]
        shown.append(
            {
                "scan": case["scan_id"],
                "truth": f"{files.values.target} {row[files.values.target]}",
                "predicted": ", ".join(answers),
                "data": embedded(picture),
            }
        )
    return shown
