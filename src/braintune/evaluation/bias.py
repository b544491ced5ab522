"""The pull of brain-age predictions to the mean, and the error adjusted for it.

Young brains are predicted too old and old ones too young. The adjustment of de Lange and Cole
(NeuroImage Clin. 26, 2020) fits the gap (predicted − true) as a line over true age and takes it
away. The line is fitted on validation rows. The adjusted gap serves to compare people of different
ages; it uses the true age, so its error is no measure of prediction.
"""

from dataclasses import dataclass

import numpy as np

from braintune.tasks.task import FloatArray

_FEWEST_ROWS = 5


@dataclass(frozen=True)
class AgeBias:
    """The line of the gap over true age.

    Attributes:
        slope: Years of gap for each year of age; below 0 for the usual pull to the mean.
        intercept: Years of gap at age 0.
    """

    slope: float
    intercept: float

    def adjust(self, predicted: FloatArray, truth: FloatArray) -> FloatArray:
        """Predictions without the part of the gap that age explains."""
        return predicted - (self.slope * truth + self.intercept)


def fit_bias(predicted: FloatArray, truth: FloatArray) -> AgeBias:
    """Fit the gap over age on validation rows; too few rows, or one age, give no adjustment.

    Example:
        >>> age = np.array([20.0, 40.0, 60.0, 80.0, 30.0])
        >>> bias = fit_bias(0.5 * age + 25, age)
        >>> round(bias.slope, 6), round(bias.intercept, 6)
        (-0.5, 25.0)
    """
    if len(truth) < _FEWEST_ROWS or np.ptp(truth) == 0:
        return AgeBias(0.0, 0.0)
    slope, intercept = np.polyfit(truth, predicted - truth, 1)
    return AgeBias(float(slope), float(intercept))
