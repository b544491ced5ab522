"""What the page of a run of label maps shows: agreement by label, volumes, contours."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from braintune.files import read_json
from braintune.reporting import figures
from braintune.reporting.pages import embedded
from braintune.reporting.run_files import RunFiles


def label_map_parts(files: RunFiles) -> dict[str, Any]:
    """The figures and cases of a run of label maps."""
    return {"figures": _figures(files), "cases": _cases(files), "positive": None}


def _figures(files: RunFiles) -> list[dict[str, str]]:
    """Each with the caption that says what a failure looks like."""
    metrics, table = files.metrics, files.predictions
    labels = list(metrics["labels"])
    headline = metrics["headline"]
    entries = [metrics["metrics"][metrics["labels"][name][headline]] for name in labels]
    shown = [
        {
            "svg": figures.intervals(
                ["mean", *labels], [metrics["metrics"][headline], *entries], "Dice"
            ),
            "caption": "Dice of each structure, with 95 % intervals over subjects.",
            "wide": "yes",
        },
        {
            "svg": _dice_of_scans(table, labels),
            "caption": "Dice of every test scan. A few points far below the others are failures to"
            " look at, below; a low cloud is a structure that the network does not know.",
        },
    ]
    for name in labels:
        of_label = table[table["label"] == name]
        true = of_label["reference_mm3"].astype("float64").to_numpy()
        found = of_label["volume_mm3"].astype("float64").to_numpy()
        shown.append(
            {
                "svg": figures.predicted_against_true(true, found, f"{name} (mm³)"),
                "caption": f"Volume of {name}. A cloud below the dotted line is a structure cut too"
                " small; one flatter than it makes all subjects alike.",
            }
        )
    shown.append(
        {
            "svg": figures.learning_curves(files.histories),
            "caption": "Loss of each fold on training patches (with augmentation) and on one patch"
            " of each validation scan. Validation that rises while training falls is overfitting.",
        }
    )
    return shown


def _dice_of_scans(table: pd.DataFrame, labels: list[str]) -> str:
    """A column of points for each label."""
    random = np.random.default_rng(0)

    def paint(axes: Axes) -> None:
        for place, name in enumerate(labels):
            dice = table.loc[table["label"] == name, "dice"].astype("float64").to_numpy()
            spread = place + random.uniform(-0.18, 0.18, len(dice))
            axes.scatter(spread, dice, s=16, color=figures.MAIN, alpha=0.6, linewidth=0)
            axes.plot([place - 0.28, place + 0.28], [np.median(dice)] * 2, color=figures.ACCENT)
        axes.set_xticks(range(len(labels)), labels, rotation=30 if len(labels) > 4 else 0)
        axes.set_ylabel("Dice")
        axes.grid(visible=False, axis="x")

    return figures.drawn(paint)


def _cases(files: RunFiles) -> list[dict[str, str]]:
    """The scans with the least agreement, with contours over their slices."""
    shown = []
    for case in read_json(files.run.cases_file):
        picture = files.run.cases_file.parent / Path(case["picture"]).name
        rows = files.predictions[files.predictions["scan_id"] == case["scan_id"]]
        true = [f"{row.label} {float(row.reference_mm3):.0f} mm³" for row in rows.itertuples()]
        found = [
            f"{row.label} {float(row.volume_mm3):.0f} mm³ (Dice {float(row.dice):.2f})"
            for row in rows.itertuples()
        ]
        shown.append(
            {
                "scan": case["scan_id"],
                "truth": f"{', '.join(true)} (white)",
                "predicted": f"{', '.join(found)} (in colour)",
                "data": embedded(picture),
            }
        )
    return shown
