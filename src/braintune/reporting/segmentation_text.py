"""What segmenting says on the terminal, and its document for machines."""

from pathlib import Path
from typing import Any

from braintune.errors import counted
from braintune.fitting.segmentation.segment import Segmentations

_SHOWN = 20


def segmentation_document(found: Segmentations, out: Path) -> dict[str, Any]:
    """Segmentations as JSON."""
    rows = found.table.astype(object)
    return {
        "out": str(out),
        "scans": len(found.table),
        "failed": found.failed,
        "empty": found.empty,
        "segmentations": rows.where(rows.notna(), None).to_dict("records"),
    }


def segmentation_text(found: Segmentations, out: Path) -> str:
    """Segmentations in a few lines: how many, and which to look at."""
    table = found.table
    done = len(table) - found.failed
    lines = [f"{counted(done, 'scan')} segmented into {out}."]
    if found.empty:
        lines.append(f"{counted(found.empty, 'scan')} all background: nothing was found in them.")
    warned = table[table["warning"].notna()]
    lines += [f"  {row.scan_id}: {row.warning}" for row in warned.head(_SHOWN).itertuples()]
    if len(warned) > _SHOWN:
        lines.append(f"  and {len(warned) - _SHOWN} more with warnings; see the table.")
    if found.failed:
        failed = table[table["problem"].notna()]
        lines.append(f"{counted(found.failed, 'scan')} could not be used:")
        lines += [f"  {row.scan_id}: {row.problem}" for row in failed.itertuples()]
    lines.append(f"Pictures: {out / 'figures'}")
    return "\n".join(lines)
