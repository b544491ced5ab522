"""Where the intracranial volume comes from: a column, masks, or labels."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pandas as pd

from braintune.cohort.labels import numbers
from braintune.errors import InputError, listing, nearest
from braintune.imaging.nifti import read_volume
from braintune.synthesis.labelmaps.reading import find_maps
from braintune.volumetry.finding import ScanMap, identify
from braintune.volumetry.measuring import voxel_mm3

ALL = "all"
_INSIDE = 0.5
_WAYS = "column:NAME, mask:FOLDER, labels:1,2,3 or labels:all"


@dataclass(frozen=True)
class IntracranialSource:
    """Where to take the intracranial volume from.

    Attributes:
        kind: ``"column"``, ``"mask"`` or ``"labels"``.
        what: The column's name, the masks' folder, or the labels.
    """

    kind: str
    what: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``column:NAME``, ``mask:FOLDER`` or ``labels:1,2,3``.

        Raises:
            InputError: If it is of no such form.

        Example:
            >>> IntracranialSource.parse("labels:1, 2").labels
            (1, 2)
        """
        kind, colon, what = text.partition(":")
        if not colon or kind not in {"column", "mask", "labels"} or not what.strip():
            raise InputError(f"--icv {text!r} must be {_WAYS}.")
        source = cls(kind, what.strip())
        if kind == "labels":
            _ = source.labels
        return source

    @property
    def labels(self) -> tuple[int, ...] | None:
        """The labels whose sum it is, None for all.

        Raises:
            InputError: If one is no whole number above 0.
        """
        if self.what == ALL:
            return None
        words = [word.strip() for word in self.what.split(",")]
        if any(not re.fullmatch(r"[1-9]\d{0,6}", word) for word in words):
            raise InputError(f"--icv labels:{self.what} must list labels such as labels:1,2,3.")
        return tuple(int(word) for word in words)

    def describe(self) -> str:
        """How people read it."""
        return {
            "column": f"the column {self.what!r}",
            "mask": "masks of the intracranial space",
            "labels": "the sum of all labels" if self.what == ALL else f"labels {self.what}",
        }[self.kind]


def from_labels(source: IntracranialSource, volumes: Mapping[int, float]) -> float:
    """The sum of the source's labels in mm³, NaN if the map has none of them.

    Args:
        source: Which labels.
        volumes: By label, in mm³.
    """
    wanted = source.labels
    found = [mm3 for value, mm3 in volumes.items() if wanted is None or value in wanted]
    return float(sum(found)) if found else float("nan")


def from_column(source: IntracranialSource, table: pd.DataFrame) -> pd.Series:
    """A column of the cohort as mm³.

    Raises:
        InputError: If there is no such column, or its values can't be intracranial volumes in mm³.
    """
    if source.what not in table.columns:
        msg = (
            f"There is no column {source.what!r} for the intracranial volume."
            f"{nearest(source.what, table.columns)} Name the cohort's table with --cohort."
        )
        raise InputError(msg)
    values = numbers(table[source.what])
    if (values <= 0).any():
        raise InputError(f"The column {source.what!r} has intracranial volumes of 0 mm³ or less.")
    return values


def find_masks(source: IntracranialSource, maps: Sequence[ScanMap]) -> dict[str, Path]:
    """The mask of each scan that has one, by scan.

    Raises:
        InputError: If a scan has two, or none has one.
    """
    files = find_maps((Path(source.what),))
    named = [file for file in files if "_mask.nii" in file.path.name] or files
    repeated = len({file.path.name for file in named}) < len(named)
    owners: dict[tuple[str, str | None], list[Path]] = {}
    for file in named:
        mask = identify(file, named_by_folder=repeated)
        owners.setdefault((mask.participant_id, mask.session_id), []).append(file.path)
    found: dict[str, Path] = {}
    for scan in maps:
        masks = owners.get((scan.participant_id, scan.session_id), [])
        if len(masks) > 1:
            msg = f"{scan.scan_id} has several masks: {listing(masks)}. Keep one in the folder."
            raise InputError(msg)
        if masks:
            found[scan.scan_id] = masks[0]
    if not found:
        msg = f"{source.what} holds no mask of a label map's subject, such as {named[0].path.name}."
        raise InputError(msg)
    return found


def mask_mm3(path: Path) -> float:
    """The volume of a mask in mm³: its voxels above one half."""
    volume = read_volume(path)
    return float((volume.data > _INSIDE).sum()) * voxel_mm3(volume.affine)
