"""Probability maps beside a label map: partial volumes, and how sure the segmentation is.

BIDS names them ``…_label-NAME_probseg.nii.gz``, one structure a file, where NAME is the structure's
name without other signs than letters and digits, or its number; or ``…_probseg.nii.gz``, a 4D file
whose sidecar lists the structures of its volumes as ``LabelMap``.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from braintune.cohort.bids import parse_name
from braintune.errors import InputError
from braintune.files import read_json
from braintune.imaging.nifti import ScanError, read_series
from braintune.synthesis.labelmaps.reading import LabelMap
from braintune.volumetry.structures import Structure

FloatArray = npt.NDArray[np.float32]
_SAME = 1e-3
# What rounding to bytes may leave above 1.
_ROUNDING = 0.02
_OF_THE_MAP = ("label", "suffix")


@dataclass(frozen=True)
class ProbabilityMap:
    """Where one structure's probabilities are.

    Attributes:
        path: The file.
        volume: Which of its volumes.
    """

    path: Path
    volume: int


def find_probabilities(
    path: Path, structures: Mapping[int, Structure]
) -> dict[int, ProbabilityMap]:
    """The probability maps beside a label map, by the label that each is of.

    Raises:
        ScanError: If a map names no label, or two are of one label.
    """
    entities = parse_name(path.name)
    if entities is None:
        return {}
    wanted = {key: value for key, value in entities.items() if key not in _OF_THE_MAP}
    values = {_plain(s.name): value for value, s in structures.items()}
    values |= {_plain(s.key): value for value, s in structures.items()}
    values |= {str(value): value for value in structures}
    found: dict[int, ProbabilityMap] = {}
    for other in sorted(path.parent.glob("*_probseg.nii*")):
        theirs = parse_name(other.name)
        if theirs is None:
            continue
        if {key: v for key, v in theirs.items() if key not in _OF_THE_MAP} != wanted:
            continue
        names = [theirs["label"]] if "label" in theirs else _names_of_volumes(other)
        for volume, name in enumerate(names):
            value = values.get(_plain(name))
            if value is None:
                msg = f"{other} is of {name!r}, which is no label of {path.name}."
                raise ScanError("probabilities", msg)
            if value in found:
                msg = f"{other} and {found[value].path} are both of the label {value}."
                raise ScanError("probabilities", msg)
            found[value] = ProbabilityMap(other, volume)
    return found


def _names_of_volumes(path: Path) -> list[str]:
    """What the volumes of a 4D file are of, as its sidecar lists them."""
    sidecar = path.with_name(f"{path.name.split('.nii')[0]}.json")
    try:
        names = read_json(sidecar).get("LabelMap")
    except (InputError, AttributeError):
        names = None
    if not isinstance(names, list):
        msg = f"{path} needs {sidecar.name} with the names of its volumes as 'LabelMap'."
        raise ScanError("probabilities", msg)
    return [str(name) for name in names]


def read_probabilities(
    maps: Mapping[int, ProbabilityMap], labels: LabelMap
) -> dict[int, FloatArray]:
    """Read probability maps, each of the label map's shape.

    Raises:
        ScanError: If one lies on another grid, or has values that are no probabilities.
    """
    files = {entry.path for entry in maps.values()}
    read = {path: _read_file(path, labels) for path in sorted(files)}
    found = {}
    for value, entry in maps.items():
        volumes = read[entry.path]
        if entry.volume >= volumes.shape[3]:
            msg = f"{entry.path} has {volumes.shape[3]} volumes, fewer than its sidecar names."
            raise ScanError("probabilities", msg)
        found[value] = volumes[..., entry.volume]
    total = sum(found.values(), np.zeros(labels.data.shape, np.float32))
    if total.max(initial=0) > 1 + _ROUNDING * len(found):
        msg = f"The probabilities beside {labels.path.name} add up to {total.max():.2f} in a voxel."
        raise ScanError("probabilities", msg)
    return found


def _read_file(path: Path, labels: LabelMap) -> FloatArray:
    series = read_series(path)
    same_shape = series.data.shape[:3] == labels.data.shape
    if not same_shape or np.abs(series.affine - labels.affine).max() > _SAME:
        msg = f"{path} lies on another grid than {labels.path.name}. Resample it to that grid."
        raise ScanError("probabilities", msg)
    low, high = float(series.data.min()), float(series.data.max())
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):
        msg = f"{path} has values from {low:g} to {high:g}; probabilities go from 0 to 1."
        raise ScanError("probabilities", msg)
    return np.clip(series.data, 0, 1)


def entropy(probabilities: Mapping[int, FloatArray]) -> FloatArray:
    """Shannon's entropy of each voxel in bits, over the labels and what is none of them.

    Example:
        >>> half = np.full((1, 1, 1), 0.5, np.float32)
        >>> float(entropy({1: half})[0, 0, 0])
        1.0
    """
    shape = next(iter(probabilities.values())).shape
    rest = np.ones(shape, np.float32)
    bits = np.zeros(shape, np.float32)
    for values in probabilities.values():
        rest -= values
        bits -= _p_log_p(values)
    return np.asarray(bits - _p_log_p(np.clip(rest, 0, 1)))


def _p_log_p(values: FloatArray) -> FloatArray:
    return np.asarray(values * np.log2(np.where(values > 0, values, 1)))


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).lower()
