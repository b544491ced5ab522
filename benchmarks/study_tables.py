"""What the results page says of the cost of a study."""

from typing import Any

from braintune.reporting.numbers import duration
from markdown_tables import hardware, row

_STUDY = """
## Cost of a study

Linear probes of a frozen ResNet-18: {folds} folds, {seeds} seeds and {rates} learning rates are
{fits} fits of {epochs} epochs each. As a study, every scan goes through the frozen network once,
and all heads train together; the time is that of everything, from making the networks to the
predictions of the test rows, with nothing kept from before. The bar is {times:g} times a forward
pass over the cohort plus {plus:g} s. *Naively* every epoch of every fit sends its scans through the
network again: two epochs of one fit a round were measured, and all others are **extrapolated**. The
last column is one fit alone whose activations are there already, as in `braintune compare`. Medians
of {rounds} rounds, with their range; within a round the contenders took turns in one process.
"""


def study(result: dict[str, Any]) -> str:
    """The section."""
    some = next(iter(result["sizes"].values()))
    text = _STUDY.format(
        **{key: result[key] for key in ("folds", "seeds", "rates")},
        **{key: some[key] for key in ("fits", "epochs", "rounds")},
        times=result["bar"]["times"],
        plus=result["bar"]["plus_seconds"],
    )
    titles = [
        result["cohort"],
        "a forward pass",
        "the study",
        "of what the bar allows",
        "naively, extrapolated",
        "times faster",
        "one fit, activations kept",
    ]
    lines = [text, row(titles), row(["---"] * len(titles))]
    for size, one in result["sizes"].items():
        cells = [
            size,
            _seconds(one["forward_seconds"]),
            _seconds(one["study_seconds"]),
            _spread(one["share_of_allowed"]),
            f"{one['naive_hours']['median']:.1f} h",
            f"{one['times_faster']}",
            _seconds(one["kept_fit_seconds"]),
        ]
        lines.append(row(cells))
    threads = result["environment"]["threads"]
    note = f" {result['note']}" if result["note"] else ""
    lines.append(f"\nHardware: {hardware(result['environment'])}, {threads} thread.{note}")
    return "\n".join(lines) + "\n"


def _seconds(value: dict[str, float]) -> str:
    low, high = value["least"], value["most"]
    return f"{duration(value['median'])} ({low:.0f} to {high:.0f} s)"


def _spread(value: dict[str, float]) -> str:
    return f"{value['median']:.2f} ({value['least']:.2f} to {value['most']:.2f})"
