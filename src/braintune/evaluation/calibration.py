"""Whether probabilities and values mean what they say, and how that drifts in another cohort.

Of two classes: how far the mean probability lies from the observed share, and the intercept and
slope of a logistic recalibration (Cox, Biometrika 45, 1958; van Calster et al., BMC Med. 17, 2019).
Of numbers: the mean error, and the slope of the line from predictions to true values.
"""

from typing import Any

import numpy as np

from braintune.tasks.classification_metrics import BINARY
from braintune.tasks.task import FloatArray, Metric, Scored, Task

# Probabilities of exactly 0 or 1 have no logit.
_LEAST = 1e-6
_STEPS, _CONVERGED = 30, 1e-8
# A slope beyond this is one of classes that the scores part without a mistake.
_LARGEST = 50.0
_BINS, _FEWEST_IN_A_BIN = 10, 5


def calibration_metrics(task: Task) -> list[Metric]:
    """What says how well a task's predictions are calibrated.

    Three classes or more have scores of their probabilities alone.
    """
    if task.n_outputs == 1:
        return [BIAS, VALUE_SLOPE]
    if task.n_outputs == 2:
        return [IN_THE_LARGE, INTERCEPT, SLOPE, BINARY["brier"], BINARY["ece"]]
    return [task.metrics["brier"], task.metrics["ece"]]


def in_the_large(scored: Scored) -> float:
    """Mean probability of the positive class minus its observed share."""
    return float(scored.predicted[:, 1].mean() - scored.truth.mean())


def calibration_intercept(scored: Scored) -> float:
    """What must be added to all logits so that the mean probability is the observed share."""
    logits, truth = _logits(scored), scored.truth
    if truth.min() == truth.max():
        return float("nan")
    shift = 0.0
    for _ in range(_STEPS):
        p = _expit(logits + shift)
        # Far out on the logistic curve a step overshoots; steps of one are safe and arrive.
        step = float(np.clip((truth - p).sum() / max((p * (1 - p)).sum(), 1e-12), -1, 1))
        shift += step
        if abs(step) < _CONVERGED:
            return shift
    return float("nan")


def calibration_slope(scored: Scored) -> float:
    """The factor on all logits, beside an intercept, that fits the truth best; 1 is right.

    Below 1, probabilities are too extreme; above, too timid. NaN where the scores part the classes
    without a mistake, so that no factor is large enough.
    """
    logits, truth = _logits(scored), scored.truth
    if truth.min() == truth.max() or np.ptp(logits) == 0:
        return float("nan")
    design = np.stack([np.ones_like(logits), logits - logits.mean()], axis=1)
    fitted = np.zeros(2)
    for _ in range(_STEPS):
        p = _expit(design @ fitted)
        curvature = (design * (p * (1 - p))[:, None]).T @ design
        if np.linalg.cond(curvature) > 1e12:
            return float("nan")
        step = np.linalg.solve(curvature, design.T @ (truth - p))
        fitted = fitted + step
        if abs(fitted[1]) > _LARGEST:
            return float("nan")
        if np.abs(step).max() < _CONVERGED:
            return float(fitted[1])
    return float("nan")


def bias(scored: Scored) -> float:
    """Mean of predicted minus true values."""
    return float((scored.predicted[:, 0] - scored.truth).mean())


def value_slope(scored: Scored) -> float:
    """Slope of the line from predictions to true values; 1 is right.

    Below 1, predictions are too extreme; above, too timid.
    """
    predicted = scored.predicted[:, 0] - scored.predicted[:, 0].mean()
    spread = float(predicted @ predicted)
    if len(predicted) < 3 or spread < 1e-12:
        return float("nan")
    return float(predicted @ (scored.truth - scored.truth.mean()) / spread)


def calibration_curve(scored: Scored) -> list[dict[str, Any]]:
    """Mean prediction and mean truth in up to ten equally full bins, for a figure.

    Of two classes the prediction is the positive one's probability; three classes have no curve.
    """
    if scored.predicted.shape[1] > 2:
        return []
    predicted = scored.predicted[:, -1]
    count = max(1, min(_BINS, len(predicted) // _FEWEST_IN_A_BIN))
    bins = np.array_split(np.argsort(predicted, kind="stable"), count)
    return [
        {
            "predicted": float(predicted[rows].mean()),
            "observed": float(scored.truth[rows].mean()),
            "scans": len(rows),
        }
        for rows in bins
    ]


def _logits(scored: Scored) -> FloatArray:
    p = np.clip(scored.predicted[:, 1], _LEAST, 1 - _LEAST)
    return np.asarray(np.log(p / (1 - p)))


def _expit(x: FloatArray) -> FloatArray:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -500, 500))))


IN_THE_LARGE = Metric("in_the_large", "mean probability minus observed share", in_the_large)
INTERCEPT = Metric("intercept", "calibration intercept", calibration_intercept)
SLOPE = Metric("slope", "calibration slope", calibration_slope)
BIAS = Metric("bias", "mean of predicted minus true", bias)
VALUE_SLOPE = Metric("slope", "slope of true over predicted", value_slope)
# What calibration is perfect at, by the metric's name.
PERFECT = {"in_the_large": 0.0, "intercept": 0.0, "bias": 0.0, "slope": 1.0}
