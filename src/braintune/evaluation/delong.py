"""DeLong's test of two ROC-AUCs on one test set (DeLong, DeLong and Clarke-Pearson, 1988).

The variance of an AUC, and its covariance with another one on the same scans, is that of the scans'
placements: for a positive scan the share of negatives below it, for a negative one the share of
positives above it. With several networks a method, such as one a seed, placements are averaged over
them, and the test is of their mean AUC.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from braintune.tasks.classification_metrics import BoolArray
from braintune.tasks.task import FloatArray


@dataclass(frozen=True)
class AucTest:
    """DeLong's test.

    Attributes:
        difference: The first AUC less the second.
        variance: Of the difference.
        p: Two-sided probability of a difference as large if there were none.
    """

    difference: float
    variance: float
    p: float


def delong(positive: BoolArray, first: FloatArray, second: FloatArray) -> AucTest:
    """Compare two methods on the same scans.

    Args:
        positive: Whether each scan is of the positive class, of shape (scans,).
        first: The first method's scores, of shape (networks, scans).
        second: The second method's.

    Example:
        >>> positive = np.array([True, True, True, False, False, False])
        >>> sharp, blunt = np.array([[4.0, 5, 6, 1, 2, 3]]), np.array([[1.0, 5, 2, 4, 3, 2]])
        >>> round(delong(positive, sharp, blunt).difference, 3)
        0.611
    """
    ours, theirs = placements(positive, first), placements(positive, second)
    of_positive, of_negative = ours[0] - theirs[0], ours[1] - theirs[1]
    difference = float(of_positive.mean())
    if min(len(of_positive), len(of_negative)) < 2:
        return AucTest(difference, float("nan"), float("nan"))
    variance = float(
        of_positive.var(ddof=1) / len(of_positive) + of_negative.var(ddof=1) / len(of_negative)
    )
    if variance <= 1e-18:
        return AucTest(difference, variance, 1.0 if abs(difference) < 1e-12 else 0.0)
    z = abs(difference) / np.sqrt(variance)
    return AucTest(difference, variance, float(2 * stats.norm.sf(z)))


def placements(positive: BoolArray, scores: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The placements of the positive and of the negative scans, averaged over networks."""
    above, below = [], []
    for score in np.atleast_2d(scores):
        high, low = score[positive], score[~positive]
        above.append(_share_below(low, high))
        below.append(1 - _share_below(high, low))
    return np.mean(above, axis=0), np.mean(below, axis=0)


def _share_below(of: FloatArray, values: FloatArray) -> FloatArray:
    """For each value, the share of others below it, ties half."""
    ordered = np.sort(of)
    left = np.searchsorted(ordered, values, side="left")
    right = np.searchsorted(ordered, values, side="right")
    return np.asarray((left + right) / 2 / len(of))
