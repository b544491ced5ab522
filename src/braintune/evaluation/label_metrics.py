"""How well one label of a label map agrees with a reference, and what is said where it is empty."""

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from braintune.evaluation.surface_distances import Mask, Spacing, surface_distances

TOLERANCE_MM = 1.0


@dataclass(frozen=True)
class LabelScores:
    """One label of one scan.

    Where both masks are empty, nothing is wrong: Dice and surface Dice are 1, volumes agree, and
    there are no distances (NaN). Where one of them is, Dice and surface Dice are 0 and the
    distances infinite (as in MONAI), and no mean is taken of an infinity: such scans are counted.

    Attributes:
        dice: Twice the overlap over the sum of both masks' sizes.
        hd95: The 95th percentile of the surface distances, the larger of both ways, in mm.
        assd: The average symmetric surface distance, in mm.
        nsd: The normalised surface Dice at 1 mm.
        volume_mm3: The predicted volume.
        reference_mm3: The reference's volume.
        volume_error_mm3: Predicted minus reference.
        volume_error_percent: The same as a share of the reference; NaN where that is empty.
    """

    dice: float
    hd95: float
    assd: float
    nsd: float
    volume_mm3: float
    reference_mm3: float
    volume_error_mm3: float
    volume_error_percent: float

    @classmethod
    def names(cls) -> list[str]:
        """The columns of a table of scores."""
        return [field.name for field in fields(cls)]


def score_label(predicted: Mask, reference: Mask, spacing: Spacing) -> LabelScores:
    """Compare a mask with its reference.

    Args:
        predicted: Of shape (x, y, z).
        reference: Of the same shape.
        spacing: Voxel size along each axis, in millimetres.

    Example:
        >>> predicted, reference = np.zeros((2, 4, 4, 4), dtype=bool)
        >>> predicted[1:3, 1:3, 1:3] = reference[1:4, 1:3, 1:3] = True
        >>> scores = score_label(predicted, reference, (1.0, 1.0, 2.0))
        >>> scores.dice, scores.volume_mm3, scores.volume_error_mm3
        (0.8, 16.0, -8.0)
    """
    voxel = float(np.prod(spacing))
    ours, theirs = int(predicted.sum()), int(reference.sum())
    distances = surface_distances(predicted, reference, spacing)
    both = int((predicted & reference).sum())
    error = (ours - theirs) * voxel
    return LabelScores(
        dice=2 * both / (ours + theirs) if ours + theirs else 1.0,
        hd95=distances.hd95,
        assd=distances.average,
        nsd=distances.within(TOLERANCE_MM),
        volume_mm3=ours * voxel,
        reference_mm3=theirs * voxel,
        volume_error_mm3=error,
        volume_error_percent=100 * error / (theirs * voxel) if theirs else float("nan"),
    )


def score_labels(
    predicted: npt.NDArray[np.uint8],
    reference: npt.NDArray[np.uint8],
    spacing: Spacing,
    count: int,
) -> list[LabelScores]:
    """Compare each of the labels 1 to ``count`` of two label maps on one grid."""
    return [
        score_label(predicted == label, reference == label, spacing)
        for label in range(1, count + 1)
    ]
