"""Probability maps beside a label map: partial volumes, and how sure the segmentation is.

BIDS names them ``…_label-NAME_probseg.nii.gz``, one structure a file; NAME is the structure's name
without other signs than letters and digits, or its number.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from braintune.cohort.bids import parse_name
from braintune.imaging.nifti import ScanError, read_volume
from braintune.synthesis.labelmaps.reading import LabelMap
from braintune.volumetry.structures import Structure

FloatArray = npt.NDArray[np.float32]
_SAME = 1e-3
# What rounding to bytes may leave above 1.
_ROUNDING = 0.02
_OF_THE_MAP = ("label", "suffix")


def find_probabilities(path: Path, structures: Mapping[int, Structure]) -> dict[int, Path]:
    """The probability maps beside a label map, by the label that each is of.

    Raises:
        ScanError: If a map names no label, or two are of one label.
    """
    entities = parse_name(path.name)
    if entities is None:
        return {}
    wanted = {key: value for key, value in entities.items() if key not in _OF_THE_MAP}
    names = {_plain(s.name): value for value, s in structures.items()}
    names |= {_plain(s.key): value for value, s in structures.items()}
    names |= {str(value): value for value in structures}
    found: dict[int, Path] = {}
    for other in sorted(path.parent.glob("*_probseg.nii*")):
        theirs = parse_name(other.name)
        if theirs is None or "label" not in theirs:
            continue
        if {key: v for key, v in theirs.items() if key not in _OF_THE_MAP} != wanted:
            continue
        value = names.get(_plain(theirs["label"]))
        if value is None:
            raise ScanError("probabilities", f"{other} names no label of {path.name}.")
        if value in found:
            msg = f"{other} and {found[value]} are both of the label {value}."
            raise ScanError("probabilities", msg)
        found[value] = other
    return found


def read_probabilities(files: Mapping[int, Path], labels: LabelMap) -> dict[int, FloatArray]:
    """Read probability maps, each of the label map's shape.

    Raises:
        ScanError: If one lies on another grid, or has values that are no probabilities.
    """
    maps = {}
    for value, path in files.items():
        volume = read_volume(path)
        same_shape = volume.data.shape == labels.data.shape
        if not same_shape or np.abs(volume.affine - labels.affine).max() > _SAME:
            msg = f"{path} lies on another grid than {labels.path.name}. Resample it to that grid."
            raise ScanError("probabilities", msg)
        low, high = float(volume.data.min()), float(volume.data.max())
        if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):
            msg = f"{path} has values from {low:g} to {high:g}; probabilities go from 0 to 1."
            raise ScanError("probabilities", msg)
        maps[value] = np.clip(volume.data, 0, 1)
    total = sum(maps.values(), np.zeros(labels.data.shape, np.float32))
    if total.max(initial=0) > 1 + _ROUNDING * len(maps):
        msg = f"The probabilities beside {labels.path.name} add up to {total.max():.2f} in a voxel."
        raise ScanError("probabilities", msg)
    return maps


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
