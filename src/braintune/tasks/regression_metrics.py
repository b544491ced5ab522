"""Metrics of predicted numbers."""

import numpy as np

from braintune.tasks.task import Metric, Scored


def mae(scored: Scored) -> float:
    """Mean absolute error."""
    return float(np.abs(scored.predicted[:, 0] - scored.truth).mean())


def rmse(scored: Scored) -> float:
    """Root mean squared error."""
    return float(np.sqrt(np.mean((scored.predicted[:, 0] - scored.truth) ** 2)))


def pearson(scored: Scored) -> float:
    """Pearson's correlation of prediction and truth."""
    predicted, truth = scored.predicted[:, 0], scored.truth
    if predicted.std() < 1e-12 or truth.std() < 1e-12:
        return float("nan")
    return float(np.corrcoef(predicted, truth)[0, 1])


def r_squared(scored: Scored) -> float:
    """Share of the variance that is explained; below 0 where the mean would be better."""
    residual = np.sum((scored.predicted[:, 0] - scored.truth) ** 2)
    total = np.sum((scored.truth - scored.truth.mean()) ** 2)
    return float(1 - residual / total) if total > 0 else float("nan")


REGRESSION = {
    metric.name: metric
    for metric in (
        Metric("mae", "mean absolute error", mae, higher_is_better=False),
        Metric("rmse", "root mean squared error", rmse, higher_is_better=False),
        Metric("r", "Pearson's r", pearson, chance=0.0),
        Metric("r2", "R²", r_squared, chance=0.0),
    )
}
