"""One label map: voxels, cubic millimetres, and what looks wrong with each label's shape."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from braintune.imaging.nifti import Affine
from braintune.synthesis.labelmaps.reading import IntArray, LabelMap
from braintune.volumetry.probabilities import FloatArray, entropy

_CUBE = np.ones((3, 3, 3), dtype=bool)


@dataclass(frozen=True)
class Region:
    """One label of one map.

    Attributes:
        value: The label.
        voxels: How many voxels have it.
        expected_voxels: The sum of its probabilities over all voxels, so that a voxel which it
            fills in part counts in part; NaN without probabilities.
        outside_largest: Share of its voxels outside its largest component; voxels that touch at a
            corner are connected.
        at_border: Voxels of it on a face of the grid, where it may have been cut.
        uncertainty: Mean entropy of its voxels in bits, NaN without probabilities.
    """

    value: int
    voxels: int
    expected_voxels: float
    outside_largest: float
    at_border: int
    uncertainty: float


def voxel_mm3(affine: Affine) -> float:
    """The volume of a voxel: the absolute determinant of the affine, right for sheared grids too.

    Args:
        affine: From voxel indices to world millimetres, of shape (4, 4).

    Example:
        >>> round(voxel_mm3(np.diag([-1.0, 1.5, 2.0, 1.0])), 9)
        3.0
    """
    return float(abs(np.linalg.det(affine[:3, :3])))


def measure_map(labels: LabelMap, probabilities: Mapping[int, FloatArray]) -> dict[int, Region]:
    """Measure every label of a map, and those that it has probabilities of.

    Args:
        labels: The map.
        probabilities: By label, of the map's shape; of none, some or all labels.

    Returns:
        One region a label, the background left out.
    """
    bits = entropy(probabilities) if probabilities else None
    boxes = ndimage.find_objects(labels.data)
    regions = {}
    for value in sorted({*labels.values, *probabilities} - {0}):
        expected = float("nan")
        if value in probabilities:
            expected = float(probabilities[value].sum(dtype=np.float64))
        box = boxes[value - 1] if value <= len(boxes) else None
        if box is None:
            regions[value] = Region(value, 0, expected, 0.0, 0, float("nan"))
            continue
        mask = labels.data[box] == value
        regions[value] = Region(
            value=value,
            voxels=int(mask.sum()),
            expected_voxels=expected,
            outside_largest=_outside_largest(mask),
            at_border=_at_border(labels.data, box, mask),
            uncertainty=float(bits[box][mask].mean()) if bits is not None else float("nan"),
        )
    return regions


def _outside_largest(mask: npt.NDArray[np.bool_]) -> float:
    components, count = ndimage.label(mask, _CUBE)
    if count == 1:
        return 0.0
    sizes = np.bincount(components.ravel())[1:]
    return float(1 - sizes.max() / sizes.sum())


def _at_border(data: IntArray, box: tuple[slice, ...], mask: npt.NDArray[np.bool_]) -> int:
    """Voxels of a mask on the grid's faces, each once."""
    faces = np.zeros(mask.shape, dtype=bool)
    for axis, (part, length) in enumerate(zip(box, data.shape, strict=True)):
        towards = np.moveaxis(faces, axis, 0)
        if part.start == 0:
            towards[0] = True
        if part.stop == length:
            towards[-1] = True
    return int((mask & faces).sum())
