"""What measuring label maps says on the terminal, and its document for machines."""

from pathlib import Path
from typing import Any

from rich.table import Table

from braintune.errors import counted, listing
from braintune.reporting.numbers import rounded
from braintune.reporting.registry_text import rendered
from braintune.volumetry.volumes import ENDINGS, Volumes
from braintune.volumetry.writing import TABLE

_MOST = 20


def volumes_document(volumes: Volumes, out: Path) -> dict[str, Any]:
    """Volumes as JSON."""
    rows = volumes.table.astype(object)
    return {
        "out": str(out),
        "table": str(out / TABLE),
        "failed": volumes.failed,
        "cautions": list(volumes.cautions),
        "volumes": rows.where(rows.notna(), None).to_dict("records"),
    }


def volumes_text(volumes: Volumes, out: Path) -> str:
    """Each structure's mean volume, how many are flagged, and what could not be measured."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("structure", "mean mm³", "SD", "flagged"):
        table.add_column(column, justify="left" if column == "structure" else "right")
    flagged = volumes.quality.loc[volumes.quality["flags"] != "", "structure"].value_counts()
    for key in list(volumes.structures)[:_MOST]:
        values = volumes.table[f"{key}{ENDINGS['none']}"]
        spread = values.std() if len(values) > 1 else float("nan")
        table.add_row(key, rounded(values.mean()), rounded(spread), str(flagged.get(key, 0)))
    lines = [f"{counted(len(volumes.table), 'scan')} measured.", rendered(table)]
    if len(volumes.structures) > _MOST:
        lines.append(f"… and {len(volumes.structures) - _MOST} more structures in the table.")
    if volumes.failed:
        lines.append(f"Not measured: {listing(volumes.failed)}; failed.tsv says why.")
    lines.append(f"Table: {out / TABLE}")
    return "\n".join(lines)
