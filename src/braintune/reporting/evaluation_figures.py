"""Figures of an external evaluation: groups, calibration here and at home, worse scans."""

from typing import Any

from matplotlib.axes import Axes

from braintune.reporting.figures import ACCENT, MAIN, MUTED, drawn


def groups(found: dict[str, dict[str, Any]], whole: dict[str, Any], metric: str) -> str:
    """The headline of each group above that of everybody, dotted.

    Args:
        found: Each group's entry.
        whole: Everybody's headline.
        metric: The headline's name.
    """

    def paint(axes: Axes) -> None:
        names = list(found)
        for y, name in enumerate(names):
            entry = found[name]["metrics"][metric]
            if entry["low"] is not None:
                axes.plot([entry["low"], entry["high"]], [y, y], color=MAIN, linewidth=2.5)
            if entry["value"] is not None:
                axes.plot(entry["value"], y, "o", color=MAIN, markersize=6)
        if whole["value"] is not None:
            axes.axvline(whole["value"], color=MUTED, linewidth=1, linestyle=":")
        labels = [f"{name} ({found[name]['subjects']})" for name in names]
        axes.set_yticks(range(len(names)), labels)
        axes.invert_yaxis()
        axes.set_xlabel(whole["label"])
        axes.grid(visible=False, axis="y")
        axes.margins(y=0.3)

    return drawn(paint, 6.4, 0.9 + 0.42 * len(found))


def calibration(curves: dict[str, list[dict[str, Any]]], value: str) -> str:
    """Observed over predicted, of the external rows and of the run's own."""

    def paint(axes: Axes) -> None:
        points = [*curves["here"], *curves["home"]]
        ends = [f(p[key] for p in points for key in ("predicted", "observed")) for f in (min, max)]
        axes.plot(ends, ends, color=MUTED, linewidth=1, linestyle=":")
        for name, color, label in (("home", MUTED, "the run's own"), ("here", MAIN, "here")):
            x = [point["predicted"] for point in curves[name]]
            y = [point["observed"] for point in curves[name]]
            axes.plot(x, y, "o-", color=color, linewidth=1.2, markersize=5, label=label)
        axes.set_xlabel(f"predicted {value}")
        axes.set_ylabel(f"observed {value}")
        axes.set_aspect("equal")
        axes.legend()

    return drawn(paint)


def robustness(kind: dict[str, Any], clean: dict[str, Any], label: str) -> str:
    """The headline over the amount of one corruption, from the scans as they are on."""

    def paint(axes: Axes) -> None:
        levels = [{"amount": 0.0, **clean}, *kind["levels"]]
        known = [level for level in levels if level["value"] is not None]
        axes.plot(
            [level["amount"] for level in known],
            [level["value"] for level in known],
            "o-",
            color=MAIN,
            linewidth=1.6,
            markersize=5,
        )
        band = [level for level in known if level["low"] is not None]
        axes.fill_between(
            [level["amount"] for level in band],
            [level["low"] for level in band],
            [level["high"] for level in band],
            color=MAIN,
            alpha=0.15,
            linewidth=0,
        )
        if clean["value"] is not None:
            axes.axhline(clean["value"], color=ACCENT, linewidth=1, linestyle=":")
        axes.set_xlabel(f"{kind['label']} ({kind['unit']})")
        axes.set_ylabel(label)

    return drawn(paint, 4.0, 3.0)
