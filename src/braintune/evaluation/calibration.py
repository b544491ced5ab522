"""Whether predictions mean elsewhere what they say: calibration, as metrics with intervals.

Of probabilities, the line of Cox (Biometrika 45, 1958): the log odds of the truth over those that
were predicted. A slope below 1 says that predictions are too extreme, as those of overfitted models
are; the mean excess says that all are too high or too low. Of values, the same in their own unit.
"""

import numpy as np

from braintune.tasks.task import FloatArray, Metric, Scored, Task

# Probabilities are kept off 0 and 1, whose log odds are infinite.
_LEAST = 1e-6
# A slope beyond it is that of classes which a threshold separates, and has no finite value.
_STEEPEST = 100.0
# What each number is of predictions that mean what they say.
RIGHT = {"bias": 0.0, "calibration_slope": 1.0}
_STEPS, _ENOUGH = 50, 1e-8
_FEWEST_ROWS = 3


def calibration_metrics(task: Task) -> list[Metric]:
    """What tells of calibration for a task: two numbers, or none for three classes and more."""
    if task.n_outputs == 1:
        return [
            Metric("bias", "mean excess of predictions", excess_value),
            Metric("calibration_slope", "calibration slope", value_slope),
        ]
    if len(task.columns()) == 2:
        return [
            Metric("bias", "mean excess of probabilities", excess_probability),
            Metric("calibration_slope", "calibration slope", logistic_slope),
        ]
    return []


def excess_value(scored: Scored) -> float:
    """How much larger predictions are than the truth, on average; 0 is right."""
    return float((scored.predicted[:, 0] - scored.truth).mean())


def value_slope(scored: Scored) -> float:
    """Slope of the truth over the predictions; 1 is right."""
    predicted = scored.predicted[:, 0]
    if len(predicted) < _FEWEST_ROWS or predicted.std() < 1e-12:
        return float("nan")
    return float(np.cov(predicted, scored.truth)[0, 1] / predicted.var(ddof=1))


def excess_probability(scored: Scored) -> float:
    """The positive class's mean probability less its share; 0 is right."""
    return float(scored.predicted[:, 1].mean() - (scored.truth == 1).mean())


def logistic_slope(scored: Scored) -> float:
    """Slope of the truth's log odds over the predicted ones; 1 is right.

    NaN if the classes are separated, when no finite slope is the likeliest, or one is missing.
    """
    return _likeliest_slope(scored.predicted[:, 1], (scored.truth == 1).astype(np.float64))


def _likeliest_slope(chance: FloatArray, positive: FloatArray) -> float:
    """By Newton's method on the likelihood of slope and intercept."""
    chance = np.clip(chance, _LEAST, 1 - _LEAST)
    odds = np.log(chance / (1 - chance))
    if positive.min() == positive.max() or odds.std() < 1e-12:
        return float("nan")
    design = np.stack([odds, np.ones_like(odds)], axis=1)
    line = np.zeros(2)
    for _ in range(_STEPS):
        found = 1 / (1 + np.exp(-np.clip(design @ line, -500, 500)))
        curvature = design.T @ (design * (found * (1 - found))[:, None])
        if np.linalg.det(curvature) < 1e-12:
            return float("nan")
        step = np.linalg.solve(curvature, design.T @ (positive - found))
        line += step
        if abs(line[0]) > _STEEPEST:
            return float("nan")
        if np.abs(step).max() < _ENOUGH:
            return float(line[0])
    return float("nan")
