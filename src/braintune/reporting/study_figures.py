"""Figures of a study's page."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from braintune.reporting.figures import ACCENT, MAIN, MUTED, drawn

_MOST = 30
# Costs that differ by more than this are drawn by their logarithm.
_WIDE = 8


def leaderboard(context: dict[str, Any]) -> str:
    """Every entry's score with its interval, the best above; grey ones see no image."""
    entries = context["entries"][:_MOST]

    def paint(axes: Axes) -> None:
        for y, entry in enumerate(entries):
            color = MUTED if entry["trivial"] else MAIN
            if entry["low"] is not None:
                ends = [entry["low"], entry["high"]]
                axes.plot(ends, [y, y], color=color, linewidth=2.5, solid_capstyle="round")
            if entry["value"] is not None:
                axes.plot(entry["value"], y, "o", color=color, markersize=7)
        axes.set_yticks(range(len(entries)), [entry["name"] for entry in entries])
        axes.set_ylim(len(entries) - 0.4, -0.6)
        axes.set_xlabel(context["label"])
        axes.grid(visible=False, axis="y")

    return drawn(paint, 7.0, 0.9 + 0.3 * len(entries))


def critical_difference(context: dict[str, Any]) -> str:
    """Entries by their score; a bar joins those of which no two are told apart."""
    entries = [entry for entry in context["entries"] if entry["value"] is not None][:_MOST]
    groups = [
        (first, min(last, len(entries) - 1))
        for first, last in context["groups"]
        if first < min(last, len(entries) - 1)
    ]

    def paint(axes: Axes) -> None:
        values = [entry["value"] for entry in entries]
        for row, entry in enumerate(entries):
            y = -row
            color = MUTED if entry["trivial"] else MAIN
            axes.plot([entry["value"]], [0], "o", color=color, markersize=6)
            axes.plot([entry["value"]] * 2, [0, y - 1], color=color, linewidth=0.8)
            text = f"{entry['name']}  {entry['value']:.3g}"
            axes.annotate(
                text,
                (entry["value"], y - 1),
                xytext=(5, -3),
                textcoords="offset points",
                color=color,
                fontsize=9,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
            )
        for height, (first, last) in enumerate(groups, start=1):
            ends = [entries[first]["value"], entries[last]["value"]]
            axes.plot(ends, [0.6 * height] * 2, color=ACCENT, linewidth=4, solid_capstyle="round")
        axes.axhline(0, color=MUTED, linewidth=1)
        spread = max(values) - min(values) or 1.0
        left, right = min(values) - 0.05 * spread, max(values) + 0.45 * spread
        axes.set_xlim(left, right)
        axes.set_ylim(-len(entries) - 0.8, 0.6 * len(groups) + 0.8)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.grid(visible=False)
        axes.set_xlabel(context["label"])

    return drawn(paint, 7.0, 1.4 + 0.24 * len(entries) + 0.12 * len(groups))


def pareto(context: dict[str, Any], cost: str, label: str) -> str:
    """Score over a cost; the line joins choices that no other beats in both."""
    entries = [
        entry
        for entry in context["entries"]
        if not entry["trivial"] and entry["value"] is not None and entry[cost]
    ]

    def paint(axes: Axes) -> None:
        front = pareto_front(entries, cost, context["higher_is_better"])
        for number, entry in enumerate(entries):
            color = MAIN if number in front else MUTED
            axes.plot(entry[cost], entry["value"], "o", color=color, markersize=6)
            if len(entries) <= _MOST or number in front:
                axes.annotate(
                    entry["name"],
                    (entry[cost], entry["value"]),
                    xytext=(5, 4),
                    textcoords="offset points",
                    fontsize=8,
                    color=color,
                )
        line = sorted(front, key=lambda number: entries[number][cost])
        axes.plot(
            [entries[n][cost] for n in line],
            [entries[n]["value"] for n in line],
            color=MAIN,
            linewidth=1,
            linestyle="--",
        )
        costs = [entry[cost] for entry in entries]
        if max(costs) > _WIDE * min(costs):
            axes.set_xscale("log")
        axes.margins(x=0.25, y=0.15)
        axes.set_xlabel(label)
        axes.set_ylabel(context["label"])

    return drawn(paint)


def pareto_front(entries: Sequence[dict[str, Any]], cost: str, higher_is_better: bool) -> set[int]:
    """The numbers of the entries that no other beats in both cost and score.

    Example:
        >>> entries = [{"s": 1, "value": 5.0}, {"s": 2, "value": 4.0}, {"s": 3, "value": 6.0}]
        >>> sorted(pareto_front(entries, "s", higher_is_better=False))
        [0, 1]
    """
    sign = -1.0 if higher_is_better else 1.0
    points = np.array([[entry[cost], sign * entry["value"]] for entry in entries], dtype=float)
    front = set()
    for number, point in enumerate(points):
        no_worse = (points <= point).all(axis=1)
        better = (points < point).any(axis=1)
        if not (no_worse & better).any():
            front.add(number)
    return front
