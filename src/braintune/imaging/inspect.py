"""What is wrong with one scan file, as far as its header and voxels can tell."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from braintune.dwi_recipe import DwiRecipe
from braintune.imaging.dwi.gradients import read_gradients
from braintune.imaging.dwi.sidecars import find_files
from braintune.imaging.nifti import (
    Affine,
    ScanError,
    Volume,
    read_header,
    read_series,
    read_volume,
    spacing_of,
)

_SMALLEST_MM, _LARGEST_MM = 0.2, 6.0
_LARGEST_RATIO = 6.0
_DISAGREEMENT_MM = 1.0


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, and what to do about it."""

    what: str
    where: str
    remedy: str


@dataclass(frozen=True)
class ScanReport:
    """What was seen of a scan.

    Attributes:
        problems: All that is wrong with it.
        spacing: Voxel sizes in millimetres, if the header could be read.
        shape: Voxels along the axes, if the voxels could be read.
        voxels: SHA-256 of the voxels and the shape, if they could be read.
    """

    problems: tuple[Problem, ...]
    spacing: tuple[float, ...] = ()
    shape: tuple[int, ...] = ()
    voxels: str = ""


REMEDIES = {
    "missing": "correct the path, or fetch the file",
    "empty": "fetch or convert it again",
    "unreadable": "convert it again from the source",
    "truncated": "copy or convert it again; the transfer broke off",
    "too large": "check the header",
    "4D": "take one 3D volume, or the mean",
    "not 3D": "take one 3D volume",
    "not 4D": "a diffusion series has several volumes; choose another suffix",
    "affine": "convert it again from the source",
    "NaN": "run the step that made it again",
    "constant": "run the step that made it again; nothing is in it",
}


def inspect_scan(path: Path) -> ScanReport:
    """Look at a scan's header and voxels and list every problem."""
    where = str(path)
    try:
        header = read_header(path)
    except ScanError as error:
        return ScanReport((_problem(error, where),))
    problems = [Problem(what, where, remedy) for what, remedy in _header_problems(header)]
    is_series = path.name.split(".")[0].endswith("_dwi")
    try:
        volume = read_series(path) if is_series else read_volume(path)
    except ScanError as error:
        return ScanReport((*problems, _problem(error, where)))
    problems += [Problem(what, where, REMEDIES[what]) for what in _voxel_problems(volume)]
    problems += _gradient_problems(path, volume) if is_series else []
    return ScanReport(
        problems=tuple(problems),
        spacing=tuple(round(float(size), 3) for size in spacing_of(volume.affine)),
        shape=volume.data.shape,
        voxels=_hash(volume),
    )


def orientation(affine: Affine) -> str:
    """Where the array axes point to, such as ``"RAS"``."""
    return "".join(nib.aff2axcodes(affine))


def _problem(error: ScanError, where: str) -> Problem:
    return Problem(error.problem, where, REMEDIES[error.problem])


def _header_problems(header: Any) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    try:
        affine = np.asarray(header.get_best_affine(), dtype=float)
    except (ValueError, nib.spatialimages.HeaderDataError):
        return found  # reading the voxels reports it
    sizes = spacing_of(affine)
    if not np.isfinite(sizes).all() or sizes.min() <= 0:
        return found
    if (
        sizes.min() < _SMALLEST_MM
        or sizes.max() > _LARGEST_MM
        or (sizes.max() > _LARGEST_RATIO * sizes.min())
    ):
        text = " × ".join(f"{size:.3g}" for size in sizes)
        found.append((f"odd voxel size {text} mm", "check the units and the slice thickness"))
    if np.linalg.det(affine[:3, :3]) < 0:
        found.append(
            (
                f"left-handed affine ({orientation(affine)})",
                "make sure that left is left, then --accept left-handed",
            )
        )
    gap = _forms_apart(header)
    if gap > _DISAGREEMENT_MM:
        found.append(
            (f"sform and qform disagree by {gap:.1f} mm", "find out which is right, copy it over")
        )
    return found


def _forms_apart(header: Any) -> float:
    """How far, in millimetres, the two affines put the farthest corner from each other."""
    if not (int(header["sform_code"]) > 0 and int(header["qform_code"]) > 0):
        return 0.0
    try:
        sform, qform = header.get_sform(), header.get_qform()
    except (ValueError, nib.spatialimages.HeaderDataError):
        return 0.0
    ends = np.array(header.get_data_shape()[:3]) - 1
    corners = np.array(np.meshgrid(*[(0, end) for end in ends])).reshape(3, -1)
    apart = (sform - qform)[:3, :3] @ corners + (sform - qform)[:3, 3:]
    return float(np.sqrt((apart**2).sum(axis=0)).max())


def _voxel_problems(volume: Volume) -> list[str]:
    found = []
    finite = np.isfinite(volume.data)
    if not finite.all():
        found.append("NaN")
    values = volume.data[finite]
    if values.size == 0 or values.min() == values.max():
        found.append("constant")
    return found


def _gradient_problems(path: Path, series: Volume) -> list[Problem]:
    """What is wrong with the gradients of a diffusion series."""
    try:
        read_gradients(find_files(path), series.data.shape[3], DwiRecipe().b0_threshold)
    except ScanError as error:
        return [Problem("gradients", str(path), str(error))]
    return []


def _hash(volume: Volume) -> str:
    digest = hashlib.sha256(str(volume.data.shape).encode())
    digest.update(np.ascontiguousarray(volume.data).tobytes())
    return digest.hexdigest()
