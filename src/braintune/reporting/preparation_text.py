"""What ``braintune prepare`` says: as text, and as one JSON document."""

from typing import Any

from braintune.errors import counted
from braintune.imaging.prepare import exclusions_text
from braintune.reporting.preparation_report import Looked


def preparation_text(looked: Looked) -> str:
    """A few lines on what was prepared, where to look, and who was left out."""
    prepared = looked.prepared
    done = counted(len(prepared.cohort), "scan")
    place = prepared.store.path
    lines = [f"{done} in {place}, {prepared.made} of them new. See {looked.page or looked.sheet}."]
    left_out = prepared.cohort.exclusions
    gone = {item.id for item in left_out}
    kept = [scan for scan in looked.flagged if scan.record.scan_id not in gone]
    if kept:
        flagged = "\n".join(f"  {scan.record.scan_id}: {scan.reason}" for scan in kept)
        lines.append(f"Look wrong, and are kept unless --exclude-flagged is given:\n{flagged}")
    if left_out:
        lines.append(f"Left out:\n{exclusions_text(left_out)}")
    return "\n".join(lines)


def preparation_document(looked: Looked) -> dict[str, Any]:
    """The same for machines."""
    prepared = looked.prepared
    document: dict[str, Any] = {
        "out": str(prepared.store.path),
        "fingerprint": prepared.store.fingerprint,
        "scans": len(prepared.cohort),
        "made": prepared.made,
        "contact_sheet": str(looked.sheet),
        "excluded": [{"id": item.id, "reason": item.reason} for item in prepared.cohort.exclusions],
    }
    if looked.page is not None:
        document["quality"] = str(looked.page)
        document["flagged"] = [
            {
                "id": scan.record.scan_id,
                "flags": [{"measure": f.measure, "reason": f.reason} for f in scan.flags],
            }
            for scan in looked.flagged
        ]
    return document
