"""Which file is the label map of each scan of a cohort."""

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd

from braintune.cohort.bids import parse_name
from braintune.cohort.cohort import Cohort
from braintune.errors import InputError, listing

# The column of a cohort's table that names label maps.
LABEL_PATH = "label_path"
# What makes two files of a session be of one scan.
_SCAN_KEYS = ("sub", "ses", "acq", "rec", "run", "echo", "space")


def with_label_maps(
    cohort: Cohort, suffix: str, desc: str | None, column: str, *, exclude_missing: bool
) -> Cohort:
    """A cohort whose table names the label map of each scan, in the column ``label_path``.

    A table, or a dataset in the Decathlon layout, says which it is; in BIDS it is the file with
    the same entities beside the image.

    Args:
        cohort: The scans.
        suffix: The BIDS suffix of label maps.
        desc: Their ``desc`` entity; None takes any, if there is one only.
        column: The column of a table that names them, relative to the table.
        exclude_missing: Leave out scans without a label map, with the reason.

    Raises:
        InputError: If a scan has no label map, or several.
    """
    if column in cohort.table.columns:
        found = cohort.table[column].map(partial(_absolute, cohort), na_action="ignore")
    else:
        paths = [_beside(Path(path), suffix, desc) for path in cohort.table["path"]]
        found = pd.Series(paths, index=cohort.table.index, dtype="string")
    there = found.notna() & found.map(lambda path: Path(path).exists(), na_action="ignore").eq(True)
    reasons = pd.Series(
        [_reason(path, suffix, desc) for path in found], index=found.index, dtype="string"
    )
    if not there.all() and not exclude_missing:
        lines = "\n".join(
            f"  {scan_id}: {reason}"
            for scan_id, reason in zip(
                cohort.table.loc[~there, "scan_id"], reasons[~there], strict=True
            )
        )
        msg = (
            f"{int((~there).sum())} of {len(cohort)} scans have no label map:\n{lines}\nAdd them,"
            " or leave these scans out with --exclude-broken, which names each of them."
        )
        raise InputError(msg)
    labelled = replace(cohort, table=cohort.table.assign(**{LABEL_PATH: found.astype("string")}))
    return labelled.keep(there, reasons)


def _absolute(cohort: Cohort, text: str) -> str:
    folder = cohort.source if cohort.source.is_dir() else cohort.source.parent
    return str((folder / text).resolve())


def _reason(path: object, suffix: str, desc: str | None) -> str:
    if isinstance(path, str):
        return f"its label map {path} does not exist"
    kind = f"desc-{desc}_{suffix}" if desc else suffix
    return f"no label map ({kind}) lies beside the image"


def _beside(image: Path, suffix: str, desc: str | None) -> str | None:
    """The label map in an image's folder with the image's entities."""
    own = parse_name(image.name)
    if own is None:
        return None
    key = [own.get(name) for name in _SCAN_KEYS]
    found = [
        path
        for path, entities in _neighbours(image.parent)
        if entities["suffix"] == suffix
        and [entities.get(name) for name in _SCAN_KEYS] == key
        and desc in (None, entities.get("desc"))
    ]
    if len(found) > 1:
        names = listing(sorted(path.name for path in found))
        msg = (
            f"{image} has several label maps: {names}. Choose one with 'task: {{maps: {{desc:"
            " ...}}}'."
        )
        raise InputError(msg)
    return str(found[0]) if found else None


def _neighbours(folder: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        entities = parse_name(entry.name)
        if entities is not None:
            yield Path(entry.path), entities
