"""What tells that a head was prepared right: measured for each, refused or flagged if it is not."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from braintune.imaging.grid import Grid, resample
from braintune.imaging.heads.result import Evidence
from braintune.imaging.heads.template import template_at
from braintune.imaging.nifti import Affine, FloatArray, ScanError, Volume

Mask = npt.NDArray[np.bool_]
_SPACING = 2.0
# Below the first no brain was found; below the second it is doubtful.
_SIMILARITY = (0.25, 0.40)
_OVERLAP = (0.80, 0.90)
# Volumes of heads' brain masks, in millilitres: beyond the outer ones nobody's.
_BRAIN_ML = (600.0, 900.0, 2000.0, 2500.0)
# Stretch to the template; a newborn's head takes 1.4.
_SCALES = (0.6, 0.75, 1.35, 1.7)
_BORDER = (0.10, 0.01)


def evidence_of(scan: Volume, share: FloatArray, map_: Affine) -> Evidence:
    """Measure a head that was brought to the template.

    Args:
        scan: The scan, without bias field.
        share: The share of its voxels that is brain.
        map_: From the template's millimetres to the scan's.
    """
    template = template_at(_SPACING)
    moved = np.asarray(np.linalg.inv(map_) @ scan.affine)
    image = resample(Volume(scan.data, moved), template.grid)
    found = resample(Volume(share, moved), template.grid) > 0.5
    mask = share > 0.5
    size = abs(float(np.linalg.det(scan.affine[:3, :3])))
    x, y, z = (float(s) for s in 1 / np.linalg.svd(map_[:3, :3])[1][::-1])
    measured = Evidence(
        brain_ml=float(mask.sum()) * size / 1000,
        overlap=dice(found, template.brain),
        similarity=_correlation(image[template.brain], template.t1[template.brain]),
        border=_at_border(mask),
        scales=(x, y, z),
    )
    return Evidence(**{**measured.__dict__, "flags": _flags(measured)})


def refuse_wrong(evidence: Evidence, path: Path) -> None:
    """Refuse a head that was surely not prepared right.

    Raises:
        ScanError: With every measure that no head has.
    """
    wrong = []
    if evidence.similarity < _SIMILARITY[0]:
        wrong.append(
            f"its similarity to the template is {evidence.similarity:.2f}, less than"
            f" {_SIMILARITY[0]:.2f}"
        )
    if evidence.overlap < _OVERLAP[0]:
        wrong.append(
            f"its brain overlaps the template's by a Dice of {evidence.overlap:.2f}, less than"
            f" {_OVERLAP[0]:.2f}"
        )
    if not _BRAIN_ML[0] <= evidence.brain_ml <= _BRAIN_ML[3]:
        wrong.append(
            f"its brain mask has {evidence.brain_ml:.0f} ml, not {_BRAIN_ML[0]:.0f} to"
            f" {_BRAIN_ML[3]:.0f}"
        )
    if min(evidence.scales) < _SCALES[0] or max(evidence.scales) > _SCALES[3]:
        wrong.append(
            f"it was stretched by {min(evidence.scales):.2f} to {max(evidence.scales):.2f}"
        )
    if evidence.border > _BORDER[0]:
        wrong.append(f"{evidence.border:.0%} of its brain's surface is cut off by the scan's edge")
    if wrong:
        msg = (
            f"{path} could not be brought to the template: {'; '.join(wrong)}. Check that it is a"
            " T1-weighted scan of a whole head and that its affine is right, or bring it there"
            " with another program and leave 'heads:' out."
        )
        raise ScanError("registration", msg)


def _flags(evidence: Evidence) -> tuple[str, ...]:
    flags = []
    if evidence.similarity < _SIMILARITY[1]:
        flags.append(f"similarity to the template {evidence.similarity:.2f} is low")
    if evidence.overlap < _OVERLAP[1]:
        flags.append(f"overlap with the template's brain {evidence.overlap:.2f} is low")
    if not _BRAIN_ML[1] <= evidence.brain_ml <= _BRAIN_ML[2]:
        flags.append(f"brain volume {evidence.brain_ml:.0f} ml is unusual")
    if min(evidence.scales) < _SCALES[1] or max(evidence.scales) > _SCALES[2]:
        low, high = min(evidence.scales), max(evidence.scales)
        flags.append(f"stretch to the template {low:.2f} to {high:.2f} is unusual")
    if evidence.border > _BORDER[1]:
        flags.append(f"{evidence.border:.0%} of the brain's surface touches the scan's edge")
    return tuple(flags)


def dice(one: Mask, other: Mask) -> float:
    """Overlap of two masks, from 0 to 1; two empty ones overlap wholly."""
    total = int(one.sum()) + int(other.sum())
    return 2 * float((one & other).sum()) / total if total else 1.0


def _correlation(one: FloatArray, other: FloatArray) -> float:
    if one.std() == 0 or other.std() == 0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def _at_border(mask: Mask) -> float:
    """Share of a mask's surface voxels that lie on the faces of its grid."""
    surface = mask & ~ndimage.binary_erosion(mask, border_value=0)
    inner = np.zeros_like(mask)
    inner[1:-1, 1:-1, 1:-1] = True
    return float((surface & ~inner).sum()) / max(int(surface.sum()), 1)


def native_grid(scan: Volume) -> Grid:
    """Where a scan's voxels lie."""
    x, y, z = scan.data.shape
    return Grid((x, y, z), scan.affine)
