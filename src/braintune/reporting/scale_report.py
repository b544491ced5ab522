"""The page of learning curves, from a study's files alone."""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from braintune.errors import InputError
from braintune.files import read_json, write_text
from braintune.reporting.figures import drawn
from braintune.reporting.pages import fill
from braintune.studies.folder import StudyFolder

# Told apart by readers of every kind of colour vision (Okabe and Ito, 2008).
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#1f2933")


def write_scale_report(path: Path) -> Path:
    """Write ``scale.html`` into a study.

    Returns:
        The page.

    Raises:
        InputError: If the study has no learning curves yet.
    """
    folder = StudyFolder.open(path)
    if not folder.scale_file.exists():
        raise InputError(f"{path} has no learning curves yet. Give the same scale command again.")
    document = read_json(folder.scale_file)
    groups = [{**group, "svg": draw_curves(group)} for group in document["groups"]]
    context = {
        "title": f"Learning curves: {', '.join(g['target'] for g in groups)}",
        "groups": groups,
        "seeds": document["seeds"],
        "recipe": folder.recipe_file.read_text(encoding="utf-8"),
        "environment": read_json(folder.environment_file),
    }
    write_text(folder.scale_page_file, fill("scale_report.html.j2", context))
    return folder.scale_page_file


def draw_curves(group: dict[str, Any]) -> str:
    """Each choice's scores over the number of subjects, with its law and the law's band."""
    curves = group["curves"][: len(_COLORS)]

    def paint(axes: Axes) -> None:
        for curve, color in zip(curves, _COLORS, strict=False):
            line, points = curve["line"], curve["points"]
            axes.fill_between(
                line["subjects"], line["low"], line["high"], color=color, alpha=0.12, linewidth=0
            )
            axes.plot(line["subjects"], line["value"], color=color, linewidth=1.2)
            for point in points:
                axes.plot(
                    [point["subjects"]] * len(point["seeds"]),
                    point["seeds"],
                    "_",
                    color=color,
                    alpha=0.7,
                )
            axes.plot(
                [p["subjects"] for p in points],
                [p["value"] for p in points],
                "o",
                color=color,
                markersize=5,
                label=curve["name"],
            )
            if curve["wish"] is not None:
                axes.axhline(curve["wish"]["score"], color="#7b8794", linewidth=1, linestyle=":")
        axes.set_xscale("log")
        if curves:
            sizes = [point["subjects"] for point in curves[0]["points"]]
            axes.axvline(max(sizes), color="#7b8794", linewidth=0.8, linestyle="--")
            ticks = [*sizes, curves[0]["line"]["subjects"][-1]]
            axes.set_xticks(ticks, [f"{tick:.0f}" for tick in ticks])
            axes.minorticks_off()
        axes.set_xlabel("subjects to learn from")
        axes.set_ylabel(group["label"])
        axes.legend()

    return drawn(paint, 7.0, 4.4)
