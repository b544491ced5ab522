"""Comparing two methods over the folds of a cross-validation.

Folds share most of their training rows, so their differences are not independent and an ordinary
t-test finds differences that are not there. Nadeau and Bengio (Mach. Learn. 52, 2003) widen the
variance by the share of the rows that is tested.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from braintune.tasks.task import FloatArray


@dataclass(frozen=True)
class PairedTest:
    """The corrected resampled t-test.

    Attributes:
        difference: Mean difference over the folds.
        t: The test statistic.
        p: Two-sided probability of a difference as large if there were none.
    """

    difference: float
    t: float
    p: float


def nadeau_bengio(differences: Sequence[float], n_train: float, n_test: float) -> PairedTest:
    """The corrected resampled t-test on differences over folds.

    Args:
        differences: One a fold.
        n_train: Training rows of a fold, on average.
        n_test: Test rows of a fold, on average.

    Example:
        >>> round(nadeau_bengio([0.1, 0.12, 0.08, 0.11, 0.09], 80, 20).p, 4)
        0.0007
    """
    values = np.asarray(differences, dtype=np.float64)
    values = values[~np.isnan(values)]
    mean = float(values.mean()) if len(values) else float("nan")
    if len(values) < 2:
        return PairedTest(mean, float("nan"), float("nan"))
    variance = values.var(ddof=1) * (1 / len(values) + n_test / n_train)
    if variance == 0:
        return PairedTest(mean, float("nan"), 1.0 if mean == 0 else 0.0)
    t = mean / float(np.sqrt(variance))
    return PairedTest(mean, t, float(2 * stats.t.sf(abs(t), len(values) - 1)))


def nadeau_bengio_many(differences: FloatArray, n_train: float, n_test: float) -> FloatArray:
    """The probabilities of `nadeau_bengio` for many pairs at once.

    Args:
        differences: One row a pair, one column a fold.
        n_train: Training rows of a fold, on average.
        n_test: Test rows of a fold, on average.

    Returns:
        One a pair.

    Example:
        >>> nadeau_bengio_many(np.array([[0.1, 0.12, 0.08, 0.11, 0.09]]), 80, 20).round(4).tolist()
        [0.0007]
    """
    known = ~np.isnan(differences)
    count = known.sum(axis=1)
    mean = np.where(known, differences, 0).sum(axis=1) / np.maximum(count, 1)
    squares = np.where(known, (differences - mean[:, None]) ** 2, 0).sum(axis=1)
    variance = squares / np.maximum(count - 1, 1) * (1 / np.maximum(count, 1) + n_test / n_train)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.abs(mean) / np.sqrt(variance)
    p = 2 * stats.t.sf(np.where(variance > 0, t, 0), np.maximum(count - 1, 1))
    p = np.where(variance == 0, np.where(mean == 0, 1.0, 0.0), p)
    return np.where(count < 2, np.nan, p)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction for many comparisons (Scand. J. Stat. 6, 1979); NaN stays NaN.

    Example:
        >>> [round(p, 4) for p in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=np.float64)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known])]
    corrected = p.copy()
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, float(p[index]) * (len(order) - rank)))
        corrected[index] = largest
    return corrected.tolist()
