"""The page of an external evaluation, made from its folder's files alone."""

from pathlib import Path
from typing import Any

from braintune._version import __version__
from braintune.errors import InputError
from braintune.files import read_json, write_text
from braintune.reporting import evaluation_figures, figures, findings
from braintune.reporting.evaluation_text import home_sentence, small_sentences
from braintune.reporting.pages import fill
from braintune.studies.evaluate import METRICS, is_evaluation

PAGE = "evaluation.html"


def write_evaluation_report(path: Path) -> Path:
    """Write ``evaluation.html`` into the folder of an evaluation.

    Returns:
        The page.

    Raises:
        InputError: If the folder is none.
    """
    if not is_evaluation(path):
        raise InputError(f"{path} is no evaluation. 'braintune evaluate' makes one.")
    write_text(path / PAGE, fill("evaluation.html.j2", _context(read_json(path / METRICS))))
    return path / PAGE


def _context(metrics: dict[str, Any]) -> dict[str, Any]:
    return {
        "title": f"{metrics['target']} on another cohort",
        "headline": findings.headline(metrics, metrics["target"], metrics["unit"]),
        "chance": findings.chance(metrics),
        "comparisons": findings.against_baselines(metrics),
        "home": home_sentence(metrics),
        "metrics": metrics,
        "beside": _beside(metrics),
        "groups": _groups(metrics),
        "small": small_sentences(metrics),
        "curve": _curve(metrics),
        "robustness": _robustness(metrics),
        "version": __version__,
    }


def _beside(metrics: dict[str, Any]) -> dict[str, str]:
    """The headline here, at home, and of all that is told without the images."""
    name = metrics["headline"]
    entries = [metrics["metrics"][name], metrics["home"]["metrics"][name]]
    entries += [baseline["metrics"][name] for baseline in metrics["baselines"].values()]
    labels = ["here", "the run's own test rows"]
    labels += [baseline["label"] for baseline in metrics["baselines"].values()]
    return {
        "svg": figures.intervals(labels, entries, entries[0]["label"]),
        "caption": "The network on this cohort, above what it reached on its own test rows and what"
        " is told here without the images. One that only knows sites or ages does not stand clear.",
    }


def _groups(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """For each way of grouping with two groups at least, its figure and its rows."""
    name = metrics["headline"]
    shown = []
    for kind, found in metrics["subgroups"].items():
        if not found["groups"]:
            continue
        first = next(iter(found["groups"].values()))["metrics"]
        shown.append(
            {
                "kind": kind,
                "labels": [entry["label"] for entry in first.values()],
                "rows": found["groups"],
                "svg": evaluation_figures.groups(found["groups"], metrics["metrics"][name], name),
            }
        )
    return shown


def _curve(metrics: dict[str, Any]) -> str | None:
    """The calibration curves, unless there are three classes."""
    curves = metrics["calibration"]["curves"]
    if not curves["here"] or not curves["home"]:
        return None
    value = "share" if "ece" in metrics["metrics"] else metrics["target"]
    return evaluation_figures.calibration(curves, value)


def _robustness(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    found = metrics["robustness"]
    if found is None:
        return []
    clean = metrics["metrics"][found["metric"]]
    return [
        {
            **kind,
            "svg": evaluation_figures.robustness(kind, clean, found["label"]),
            "first": _first_loss(kind, clean["higher_is_better"]),
        }
        for kind in found["kinds"].values()
    ]


def _first_loss(kind: dict[str, Any], higher_is_better: bool) -> float | None:
    """The least amount from which on the interval of the change is on the wrong side of 0."""
    for level in kind["levels"]:
        change = level["change"]
        if change["low"] is None:
            continue
        if (change["high"] < 0) if higher_is_better else (change["low"] > 0):
            return float(level["amount"])
    return None
