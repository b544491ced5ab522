"""Reading a condition off a scan: ridge regression, fitted on real scans, tried on others."""

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GroupKFold, cross_val_predict

from braintune.synthesis.diffusion.quality.coarse import Rows

Values = npt.NDArray[np.float64]
_STRENGTHS = np.logspace(-2, 6, 17)
_FOLDS, _FEWEST = 5, 10


@dataclass(frozen=True)
class Correlation:
    """Pearson's r with its 95 % interval by Fisher's z.

    Attributes:
        r: The correlation; NaN where one side does not vary.
        low: Lower end.
        high: Upper end.
        count: Pairs.
    """

    r: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, first: Values, second: Values) -> "Correlation":
        """Correlate pairs, those with a NaN left out.

        Example:
            >>> round(Correlation.of(np.arange(9.0), np.arange(9.0)).r, 6)
            1.0
        """
        whole = np.isfinite(first) & np.isfinite(second)
        first, second = first[whole], second[whole]
        nothing = float("nan")
        if len(first) < 4 or np.ptp(first) == 0 or np.ptp(second) == 0:
            return cls(nothing, nothing, nothing, len(first))
        with warnings.catch_warnings():
            # A perfect correlation divides by zero on the way to its interval.
            warnings.simplefilter("ignore", RuntimeWarning)
            result = stats.pearsonr(first, second)
            interval = result.confidence_interval()
        return cls(float(result.statistic), float(interval.low), float(interval.high), len(first))


@dataclass(frozen=True)
class Reading:
    """What was read off scans.

    Attributes:
        samples: Of each sample.
        real: Correlation of what is read off real scans that the reader was not fitted on with what
            the table says: the best that samples can reach.
    """

    samples: Values
    real: Correlation


def read_off(real: Rows, truth: Values, subjects: npt.NDArray[np.str_], samples: Rows) -> Reading:
    """Fit a reader on real scans and read a condition off samples.

    Args:
        real: Real scans, from `coarse_rows`.
        truth: Their values.
        subjects: Whose they are; a subject's scans are never on both sides when it is tried.
        samples: Samples, from `coarse_rows`.
    """
    folds = min(_FOLDS, len(np.unique(subjects)))
    reader = RidgeCV(_STRENGTHS)
    tried = cross_val_predict(reader, real, truth, groups=subjects, cv=GroupKFold(folds))
    fitted = RidgeCV(_STRENGTHS).fit(real, truth)
    predicted = np.asarray(fitted.predict(samples), dtype=np.float64)
    return Reading(predicted, Correlation.of(truth, np.asarray(tried, dtype=np.float64)))


def can_read(truth: Values) -> bool:
    """Whether there are enough different values to fit a reader."""
    return len(truth) >= _FEWEST and bool(np.ptp(truth) > 0)
