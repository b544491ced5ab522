"""Figures of a report, each an SVG to put into the page."""

import io
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import roc_curve

Values = npt.NDArray[np.floating[Any]]

INK, MUTED, GRID = "#1f2933", "#7b8794", "#e4e7eb"
MAIN, ACCENT = "#1f6feb", "#d9622b"
_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "braintune",
}


def drawn(paint: Callable[[Axes], None], width: float = 4.4, height: float = 3.6) -> str:
    """Draw one figure.

    Args:
        paint: Puts everything onto the axes.
        width: In inches.
        height: In inches.

    Returns:
        An ``<svg>`` element; the same figure gives the same text.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        paint(figure.subplots())
        buffer = io.StringIO()
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def intervals(labels: Sequence[str], entries: Sequence[dict[str, Any]], name: str) -> str:
    """The network's headline metric above those of the baselines, with intervals."""

    def paint(axes: Axes) -> None:
        for y, entry in enumerate(entries):
            color = MAIN if y == 0 else MUTED
            if entry["low"] is not None:
                ends = [entry["low"], entry["high"]]
                axes.plot(ends, [y, y], color=color, linewidth=2.5, solid_capstyle="round")
            if entry["value"] is not None:
                axes.plot(entry["value"], y, "o", color=color, markersize=8 if y == 0 else 6)
        axes.set_yticks(range(len(labels)), labels)
        axes.invert_yaxis()
        axes.set_xlabel(name)
        axes.grid(visible=False, axis="y")
        axes.margins(y=0.3)

    return drawn(paint, 6.4, 0.9 + 0.42 * len(entries))


def learning_curves(histories: Sequence[pd.DataFrame]) -> str:
    """Training and validation loss of each fold."""

    def paint(axes: Axes) -> None:
        for number, history in enumerate(histories):
            first = number == 0
            axes.plot(
                history["epoch"],
                history["loss"],
                color=MUTED,
                linewidth=1,
                label="training" if first else None,
            )
            axes.plot(
                history["epoch"],
                history["validation_loss"],
                color=MAIN,
                linewidth=1.4,
                label="validation" if first else None,
            )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("epoch")
        axes.set_ylabel("loss")
        axes.legend()

    return drawn(paint)


def roc(truth: Values, score: Values, fold: Values) -> str:
    """ROC curve of each fold, thin, and of all scans together, thick."""

    def paint(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=":")
        for number in np.unique(fold):
            rows = fold == number
            if len(np.unique(truth[rows])) == 2:
                false, true, _ = roc_curve(truth[rows], score[rows])
                axes.plot(false, true, color=MAIN, alpha=0.3, linewidth=1)
        false, true, _ = roc_curve(truth, score)
        axes.plot(false, true, color=MAIN, linewidth=2.2, label="all folds")
        axes.set_xlabel("1 − specificity")
        axes.set_ylabel("sensitivity")
        axes.set_aspect("equal")
        axes.legend(loc="lower right")

    return drawn(paint)


def calibration(truth: Values, score: Values) -> str:
    """Observed share against predicted probability, in up to ten equally full bins."""

    def paint(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=":")
        bins = np.array_split(np.argsort(score), max(2, min(10, len(score) // 10)))
        for rows in bins:
            share = truth[rows].mean()
            error = 1.96 * np.sqrt(share * (1 - share) / len(rows))
            axes.errorbar(score[rows].mean(), share, yerr=error, fmt="o", color=MAIN, linewidth=1)
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlabel("predicted probability")
        axes.set_ylabel("observed share")
        axes.set_aspect("equal")

    return drawn(paint)


def confusion(labels: Sequence[str], counts: npt.NDArray[np.int64]) -> str:
    """Counts of the decided class (columns) in each true class (rows)."""

    def paint(axes: Axes) -> None:
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1.2)
        for (row, column), count in np.ndenumerate(counts):
            axes.text(column, row, str(count), ha="center", va="center", fontsize=12)
        axes.set_xticks(range(len(labels)), labels)
        axes.set_yticks(range(len(labels)), labels)
        axes.set_xlabel("decided")
        axes.set_ylabel("true")
        axes.grid(visible=False)

    return drawn(paint)


def predicted_against_true(truth: Values, predicted: Values, name: str) -> str:
    """Each scan's prediction over its true value, with the line of identity."""

    def paint(axes: Axes) -> None:
        ends = [min(truth.min(), predicted.min()), max(truth.max(), predicted.max())]
        axes.plot(ends, ends, color=MUTED, linewidth=1, linestyle=":")
        axes.scatter(truth, predicted, s=18, color=MAIN, alpha=0.7, linewidth=0)
        axes.set_xlabel(f"true {name}")
        axes.set_ylabel(f"predicted {name}")
        axes.set_aspect("equal")

    return drawn(paint)


def gap_against_true(truth: Values, raw: Values, adjusted: Values | None, name: str) -> str:
    """Predicted minus true value over the true value, raw and bias-adjusted, with their lines."""

    def paint(axes: Axes) -> None:
        axes.axhline(0, color=MUTED, linewidth=1, linestyle=":")
        shown = [(raw, MAIN, "raw")]
        if adjusted is not None:
            shown.append((adjusted, ACCENT, "bias-adjusted"))
        for values, color, label in shown:
            gap = values - truth
            axes.scatter(truth, gap, s=14, color=color, alpha=0.5, linewidth=0, label=label)
            ends = np.array([truth.min(), truth.max()])
            axes.plot(ends, np.polyval(np.polyfit(truth, gap, 1), ends), color=color, linewidth=1.5)
        axes.set_xlabel(f"true {name}")
        axes.set_ylabel("predicted − true")
        axes.legend()

    return drawn(paint)
