"""Masks that users have already, in the folders of fMRIPrep, CAT12 and FreeSurfer."""

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from braintune.cohort.bids import parse_name
from braintune.cohort.cohort import Cohort
from braintune.errors import InputError, listing

# The column of a cohort that names each scan's mask.
MASK_PATH = "mask_path"
_CAT12 = re.compile(r"^p0(?P<scan>.+)\.nii(?:\.gz)?$")


def with_masks(cohort: Cohort, folders: Sequence[Path]) -> Cohort:
    """Add to each scan of a cohort the mask that belongs to it, as the column ``mask_path``.

    A mask belongs to a scan by the file's name (CAT12), or by subject and session. One of a whole
    subject is taken only where the cohort has a single session of it, since sessions differ in
    where the head lay. Masks in a template's space are passed over.

    Args:
        cohort: The scans.
        folders: Where to look, with what is below them.

    Raises:
        InputError: If a folder is missing, if no scan has a mask, or if a scan has several.
    """
    masks: dict[str, set[Path]] = defaultdict(set)
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"The folder of masks {folder} does not exist.")
        for name, path in _found(folder):
            masks[name].add(path)
    sessions = cohort.table.groupby("participant_id")["scan_id"].nunique()
    paths = []
    for row in cohort.table.to_dict("records"):
        names = _names(row, alone=int(sessions[row["participant_id"]]) == 1)
        paths.append(_only(row["scan_id"], next((masks[n] for n in names if n in masks), set())))
    if not any(paths):
        there = listing(sorted(masks)) or "none"
        msg = (
            f"No mask in {listing(folders)} belongs to a scan of {cohort.source}. Masks are there"
            f" of: {there}. Looked for fMRIPrep's *_desc-brain_mask.nii.gz in the scan's own space,"
            " CAT12's mri/p0*.nii and FreeSurfer's mri/brainmask.mgz."
        )
        raise InputError(msg)
    column = pd.array([None if path is None else str(path) for path in paths], dtype="string")
    return Cohort(cohort.source, cohort.table.assign(**{MASK_PATH: column}), cohort.exclusions)


def _found(folder: Path) -> Iterator[tuple[str, Path]]:
    """What each mask below a folder is called after, and the mask."""
    for place, folders, names in os.walk(folder, followlinks=False):
        folders.sort()
        for name in sorted(names):
            path = Path(place, name).resolve()
            if name == "brainmask.mgz" and path.parent.name == "mri":
                yield path.parent.parent.name, path
            elif (match := _CAT12.match(name)) is not None:
                yield match["scan"], path
            elif (owner := _of_fmriprep(name)) is not None:
                yield owner, path


def _of_fmriprep(name: str) -> str | None:
    """The subject, and the session if there is one, of a mask in a scan's own space."""
    entities = parse_name(name)
    if entities is None or entities["suffix"] != "mask" or entities.get("desc") != "brain":
        return None
    if entities.get("space", "T1w") != "T1w":
        return None
    parts = [f"{key}-{entities[key]}" for key in ("sub", "ses", "acq", "run") if key in entities]
    return "_".join(parts)


def _names(row: Mapping[Any, Any], *, alone: bool) -> list[str]:
    """What a scan's mask may be called after, from the most to the least particular."""
    stem = Path(row["path"]).name.split(".nii")[0]
    entities = parse_name(Path(row["path"]).name) or {}
    particular = [
        f"{key}-{entities[key]}" for key in ("sub", "ses", "acq", "run") if key in entities
    ]
    names = [row["scan_id"], stem, "_".join(particular)]
    if isinstance(row["session_id"], str):
        names.append(f"{row['participant_id']}_{row['session_id']}")
    if alone:
        names.append(row["participant_id"])
    return [name for name in names if name]


def _only(scan_id: str, paths: set[Path]) -> Path | None:
    if len(paths) > 1:
        msg = f"{scan_id} has several masks: {listing(sorted(paths))}. Give one folder of masks."
        raise InputError(msg)
    return next(iter(paths), None)
