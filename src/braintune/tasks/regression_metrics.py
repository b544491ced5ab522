"""Metrics of predicted numbers."""

import numpy as np

from braintune.tasks.task import Metric, Scored

_FEWEST_TO_CORRELATE = 3


def mae(scored: Scored) -> float:
    """Mean absolute error."""
    return float(np.abs(scored.predicted[:, 0] - scored.truth).mean())


def rmse(scored: Scored) -> float:
    """Root mean squared error."""
    return float(np.sqrt(np.mean((scored.predicted[:, 0] - scored.truth) ** 2)))


def pearson(scored: Scored) -> float:
    """Pearson's correlation of prediction and truth within folds, each weighing by its scans.

    Folds have different models. Pooled over them, even a constant prediction correlates with the
    truth, and negatively: each fold's training mean is high where its test mean is low.
    """
    values, weights = [], []
    for fold in np.unique(scored.fold):
        rows = scored.fold == fold
        predicted, truth = scored.predicted[rows, 0], scored.truth[rows]
        if len(truth) >= _FEWEST_TO_CORRELATE and min(predicted.std(), truth.std()) > 1e-12:
            values.append(float(np.corrcoef(predicted, truth)[0, 1]))
            weights.append(len(truth))
    return float(np.average(values, weights=weights)) if values else float("nan")


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
