"""What an external cohort said, on the terminal."""

from pathlib import Path
from typing import Any

from braintune.errors import counted
from braintune.reporting.numbers import rounded, with_interval
from braintune.reporting.run_text import beside_baselines


def evaluation_text(metrics: dict[str, Any], page: Path) -> str:
    """An external cohort in a few lines.

    Args:
        metrics: What `evaluate` returned.
        page: Where the page is.
    """
    headline = metrics["metrics"][metrics["headline"]]["label"]
    summary = (
        f"{metrics['scans']} scans of {metrics['subjects']} subjects whom the run has never seen;"
        " 95 % intervals over subjects"
    )
    lines = [
        summary,
        beside_baselines(metrics, "network"),
        home_sentence(metrics),
        *[point_sentence(point) for point in metrics["operating_points"]],
        *[
            f"{headline} of {kind} {name} ({entry['subjects']} subjects):"
            f" {with_interval(next(iter(entry['metrics'].values())))}"
            for kind, found in metrics["subgroups"].items()
            for name, entry in found["groups"].items()
        ],
        *small_sentences(metrics),
    ]
    if metrics["excluded"]:
        lines.append(
            f"{counted(len(metrics['excluded']), 'scan')} left out; metrics.json says why."
        )
    return "\n".join([*lines, f"Page: {page}"])


def home_sentence(metrics: dict[str, Any]) -> str:
    """How the headline compares with the run's own."""
    home = metrics["home"]["metrics"][metrics["headline"]]
    change = metrics["drift"]
    settled = change["low"] is not None and (change["low"] > 0 or change["high"] < 0)
    verdict = (
        "the interval of the difference excludes 0"
        if settled
        else "whether it is another value here is not settled"
    )
    return (
        f"{home['label']} on the run's own test rows: {with_interval(home)}; here minus there"
        f" {with_interval(change)}: {verdict}."
    )


def point_sentence(point: dict[str, Any]) -> str:
    """What the decisions at an operating point are worth."""
    parts = [f"{entry['label']} {with_interval(entry)}" for entry in point["here"].values()]
    return f"At {point['point']} (from {rounded(point['threshold'])} on): {', '.join(parts)}."


def small_sentences(metrics: dict[str, Any]) -> list[str]:
    """The groups that are not scored, one sentence a way of grouping."""
    return [
        f"Not scored by {kind}: "
        + ", ".join(
            f"{name} ({entry['subjects']} subjects; {entry['reason']})"
            for name, entry in found["too_small"].items()
        )
        + "."
        for kind, found in metrics["subgroups"].items()
        if found["too_small"]
    ]
