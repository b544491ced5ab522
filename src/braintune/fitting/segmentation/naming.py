"""Names of label maps as a BIDS derivative, whatever their scans are called."""

from collections import Counter
from pathlib import Path

import pandas as pd

from braintune.cohort.bids import parse_name

# The entities of a scan that its label map keeps, in the order of BIDS.
_KEPT = ("sub", "ses", "acq", "rec", "run", "echo", "space")


def derivative_names(table: pd.DataFrame, desc: str) -> dict[str, Path]:
    """For each scan, the path of its label map within a derivative, without the suffix.

    Files without a BIDS name become a subject of their name's letters and digits.

    Args:
        table: A cohort's, with scan_id and path.
        desc: What the label maps show.

    Example:
        >>> table = pd.DataFrame({"scan_id": ["a"], "path": ["sub-01_ses-2_desc-brain_T1w.nii.gz"]})
        >>> str(derivative_names(table, "hippocampus")["a"])
        'sub-01/ses-2/anat/sub-01_ses-2_desc-hippocampus'
    """
    rows = list(zip(table["scan_id"], table["path"], strict=True))
    entities = {scan_id: _entities(str(scan_id), Path(str(path)).name) for scan_id, path in rows}
    count = Counter("_".join(found.values()) for found in entities.values())
    used: Counter[str] = Counter()
    names = {}
    for scan_id, found in entities.items():
        key = "_".join(found.values())
        used[key] += 1
        if count[key] > 1:
            # Such as two contrasts of one session: BIDS tells them apart by another acquisition.
            found = {**found, "acq": f"{found.get('acq', '')}{used[key]}"}
        parts = [f"{name}-{found[name]}" for name in _KEPT if name in found]
        folder = Path(*parts[: 2 if "ses" in found else 1], "anat")
        names[scan_id] = folder / "_".join([*parts, f"desc-{desc}"])
    return names


def _entities(scan_id: str, name: str) -> dict[str, str]:
    found = parse_name(name)
    if found is None:
        return {"sub": "".join(c for c in scan_id if c.isascii() and c.isalnum()) or "unnamed"}
    return {key: found[key] for key in _KEPT if key in found}
