"""The group page of volumes, made from what `braintune volumes` wrote."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from braintune.cohort.labels import looks_numeric, numbers
from braintune.cohort.tables import read_table
from braintune.files import read_json, write_text
from braintune.reporting.figures import ACCENT, MAIN, drawn
from braintune.reporting.numbers import rounded
from braintune.reporting.pages import embedded, fill
from braintune.reporting.sorting import sorting_script
from braintune.volumetry.pictures import CASES
from braintune.volumetry.volumes import ENDINGS
from braintune.volumetry.writing import FAILED, QUALITY, TABLE

PAGE = "volumes.html"
_MOST_FIGURES = 12


def write_volumes_report(folder: Path) -> Path:
    """Write ``volumes.html`` beside the tables.

    Raises:
        InputError: If the folder holds no volumes.
    """
    table = read_table(folder / TABLE)
    quality = read_table(folder / QUALITY)
    sidecar = read_json((folder / TABLE).with_suffix(".json"))
    keys = quality["structure"].drop_duplicates().tolist()
    context = {
        "method": sidecar["MeasurementToolMetadata"],
        "scans": len(table),
        "failed": _failed(folder),
        "flagged": _flag_counts(quality),
        "header": _header(table, keys),
        "rows": _rows(table, keys),
        "figures": [_figure(table, quality, key) for key in keys[:_MOST_FIGURES]],
        "cases": [{**case, "data": _data(folder, case)} for case in read_json(folder / CASES)],
        **sorting_script(),
    }
    write_text(folder / PAGE, fill("volumes_report.html.j2", context))
    return folder / PAGE


def _failed(folder: Path) -> list[tuple[str, str]]:
    if not (folder / FAILED).exists():
        return []
    table = read_table(folder / FAILED)
    return list(zip(table["scan_id"], table["problem"], strict=True))


def _flag_counts(quality: pd.DataFrame) -> list[tuple[str, int]]:
    flags = quality["flags"].dropna().str.split(", ").explode()
    return [(str(name), int(count)) for name, count in flags.value_counts().items()]


def _header(table: pd.DataFrame, keys: list[str]) -> list[str]:
    people = [name for name in ("age", "sex", "dx") if name in table]
    return ["scan", *people, *[f"{key.replace('_', ' ')}, mm³" for key in keys], "flags"]


def _rows(table: pd.DataFrame, keys: list[str]) -> list[list[tuple[str, str]]]:
    """What each cell shows, and what it is sorted by."""
    people = [name for name in ("age", "sex", "dx") if name in table]
    rows = []
    for row in table.to_dict("records"):
        cells = [(str(row["scan_id"]),) * 2]
        cells += [(_text(row[name]),) * 2 for name in people]
        for key in keys:
            value = row[f"{key}{ENDINGS['none']}"]
            shown = rounded(float(value)) if isinstance(value, str) else "–"
            cells.append((shown, value if isinstance(value, str) else "-1"))
        cells.append((_text(row["flags"]),) * 2)
        rows.append([(shown, by) for shown, by in cells])
    return rows


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _figure(table: pd.DataFrame, quality: pd.DataFrame, key: str) -> dict[str, str]:
    """A structure's volumes over age, or in the table's order where there are no ages."""
    values = numbers(table[f"{key}{ENDINGS['none']}"]).to_numpy()
    has_age = "age" in table and looks_numeric(table["age"])
    x = numbers(table["age"]).to_numpy() if has_age else np.arange(1, len(table) + 1)
    flagged = quality[(quality["structure"] == key) & quality["flags"].notna()]["scan_id"]
    odd = table["scan_id"].isin(flagged).to_numpy()

    def paint(axes: Axes) -> None:
        axes.scatter(x[~odd], values[~odd], s=16, color=MAIN, alpha=0.7, linewidth=0)
        axes.scatter(x[odd], values[odd], s=26, color=ACCENT, linewidth=0)
        axes.set_xlabel("age" if has_age else "scan")
        axes.set_ylabel("mm³")

    return {"name": key.replace("_", " "), "svg": drawn(paint, 3.6, 2.8)}


def _data(folder: Path, case: dict[str, Any]) -> str:
    return embedded((folder / CASES).parent / Path(case["picture"]).name)
