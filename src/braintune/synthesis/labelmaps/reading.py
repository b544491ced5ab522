"""Reading label maps, which are taken for hostile until they have proven otherwise."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from braintune.errors import InputError
from braintune.imaging.nifti import Affine, ScanError, read_volume

# An image mistaken for a label map has far more values than any atlas has labels.
_MOST_LABELS = 1024
# Larger numbers than any atlas uses; tables of all numbers up to it stay small.
_LARGEST_VALUE = 1_000_000

IntArray = npt.NDArray[np.int32]


@dataclass(frozen=True)
class LabelMap:
    """One label map in memory.

    Attributes:
        path: Where it came from.
        data: Label values, of shape (x, y, z).
        values: The values that there are, ascending.
        affine: From voxel indices to world millimetres, of shape (4, 4).
    """

    path: Path
    data: IntArray
    values: tuple[int, ...]
    affine: Affine


@dataclass(frozen=True)
class MapFile:
    """A label map on disk.

    Attributes:
        path: The file.
        root: The folder that was named by the user, above which no file is looked at.
    """

    path: Path
    root: Path


def find_maps(places: tuple[Path, ...]) -> list[MapFile]:
    """List the label maps in folders, in a fixed order, and files as they are named.

    Raises:
        InputError: If a place does not exist, or holds no label map.
    """
    found = []
    for place in places:
        if place.is_file():
            found.append(MapFile(place, place.parent))
        elif place.is_dir():
            found += [MapFile(path, place) for path in _in_folder(place)]
        else:
            raise InputError(f"The label maps {place} do not exist. Name a folder or a file.")
    return found


def _in_folder(folder: Path) -> list[Path]:
    images = sorted(p for p in folder.rglob("*.nii*") if p.name.endswith((".nii", ".nii.gz")))
    # Files that begin with a dot are half-written ones, or what file managers leave behind.
    images = [path for path in images if not path.name.startswith(".")]
    named = [path for path in images if "_dseg.nii" in path.name]
    if not images:
        raise InputError(f"{folder} holds no label map (*_dseg.nii.gz, or any *.nii.gz).")
    return named or images


def read_label_map(path: Path) -> LabelMap:
    """Read one label map.

    Raises:
        ScanError: If it is no 3D NIfTI of whole numbers from 0, has far too many of them, or
            nothing but background.
    """
    volume = read_volume(path)
    data = volume.data
    if not np.isfinite(data).all():
        raise ScanError("not finite", f"{path} has voxels that are no numbers; labels must be.")
    if data.min() < 0 or data.max() > _LARGEST_VALUE:
        raise ScanError(
            "labels",
            f"{path} has values from {data.min():g} to {data.max():g}; labels go from 0 to"
            f" {_LARGEST_VALUE:,}.",
        )
    labels = data.astype(np.int32)
    if (labels != data).any():
        wrong = float(data[labels != data][0])
        raise ScanError(
            "labels",
            f"{path} has the value {wrong:g}; labels are whole numbers. Was it interpolated, or is"
            " it an image?",
        )
    values = np.flatnonzero(np.bincount(labels.ravel()))
    if len(values) > _MOST_LABELS:
        raise ScanError(
            "labels",
            f"{path} has {len(values):,} different values, at most {_MOST_LABELS:,} are taken for"
            " labels. It looks like an image.",
        )
    if values.tolist() == [0]:
        raise ScanError("empty", f"{path} holds nothing but background (0).")
    return LabelMap(path, labels, tuple(values.tolist()), volume.affine)
