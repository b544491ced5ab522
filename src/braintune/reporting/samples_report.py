"""The page about sampled scans, made from what `braintune synthesize report` wrote."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from braintune.cohort.tables import read_table
from braintune.files import read_json, write_text
from braintune.reporting.figures import MAIN, MUTED, drawn
from braintune.reporting.numbers import p_value, rounded, with_interval
from braintune.reporting.pages import embedded, fill

PAGE = "quality.html"


def write_samples_report(folder: Path) -> Path:
    """Write ``quality.html`` beside ``quality.json``.

    Raises:
        InputError: If the folder holds no measured samples.
    """
    document = read_json(folder / "quality.json")
    table = read_table(folder / "measured.tsv")
    context = {
        "document": document,
        "correlation": _correlation,
        "figures": [_scatter(table, name) for name in document["conditions"]],
        "pictures": {name: embedded(folder / f"{name}.png") for name in ("samples", "real")},
    }
    write_text(folder / PAGE, fill("samples_report.html.j2", context))
    return folder / PAGE


def samples_text(document: dict[str, Any]) -> str:
    """The findings in a few lines."""
    diversity, likeness = document["diversity"], document["likeness"]
    alike = (
        f"{rounded(diversity['samples'])} among samples, {rounded(diversity['real'])} among real"
    )
    lines = [f"MS-SSIM of pairs: {alike} scans; higher is more alike."]
    if "mmd2" in likeness:
        lines.append(
            f"MMD² to real scans: {rounded(likeness['mmd2'])}, of real halves"
            f" {rounded(likeness['mmd2_of_real_halves'])}; p {p_value(likeness['p'])}."
            f" Features: {likeness['features']}."
        )
    memory = document["memorisation"]
    if memory["known"]:
        lines.append(
            f"Suspected copies of training scans: {len(memory['suspected_copies'])} of"
            f" {document['samples']}."
        )
    else:
        lines.append(f"Copies of training scans can't be looked for: {memory['reason']}.")
    lines += [
        f"{name}: r {_correlation(found['asked_against_read'])} between what was asked and what is"
        f" read off samples; {_correlation(found['on_real_scans'])} on real scans."
        for name, found in document["conditions"].items()
    ]
    if document["ventricles"] is not None:
        found = document["ventricles"]["asked_against_measured"]
        lines.append(f"Fluid in the place of the ventricles: r {_correlation(found)} with the ask.")
    return "\n".join(lines)


def _correlation(entry: dict[str, Any]) -> str:
    return with_interval({"value": entry["r"], "low": entry["low"], "high": entry["high"]})


def _scatter(table: pd.DataFrame, name: str) -> dict[str, str]:
    asked = table[f"{name}_asked"].astype("float64").to_numpy()
    found = table[f"{name}_read"].astype("float64").to_numpy()

    def paint(axes: Axes) -> None:
        ends = np.array([min(asked.min(), found.min()), max(asked.max(), found.max())])
        axes.plot(ends, ends, color=MUTED, linewidth=1, linestyle=":")
        axes.scatter(asked, found, s=18, color=MAIN, alpha=0.7, linewidth=0)
        axes.set_xlabel(f"{name} that was asked for")
        axes.set_ylabel(f"{name} read off the sample")

    return {"name": name, "svg": drawn(paint)}
