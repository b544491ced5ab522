"""Metrics of many resamples at once.

A resample of subjects is a weight for each row: how often its subject was drawn. Most metrics are
sums over rows or pairs of rows, so that two thousand resamples are a few products of matrices. What
is not such a sum is computed resample by resample.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from braintune.evaluation.intervals import RESAMPLES
from braintune.tasks.task import FloatArray, IntArray, Metric, Scored

_CHUNK = 2_000_000  # numbers of one matrix of weights

Weighted = Callable[[Scored, FloatArray], FloatArray]


def subject_counts(n_subjects: int, seed: int = 0, resamples: int = RESAMPLES) -> IntArray:
    """How often each subject is drawn in each resample, of shape (resamples, subjects).

    Example:
        >>> subject_counts(4, resamples=3).sum(axis=1).tolist()
        [4, 4, 4]
    """
    random = np.random.default_rng([seed, 21])
    drawn = random.integers(n_subjects, size=(resamples, n_subjects))
    counts = np.zeros((resamples, n_subjects), dtype=np.int64)
    np.add.at(counts, (np.arange(resamples)[:, None], drawn), 1)
    return counts


def resampled(scored: Scored, metric: Metric, counts: IntArray) -> FloatArray:
    """A metric of each resample of subjects.

    Args:
        scored: Predictions; ``subject`` numbers the columns of ``counts``.
        metric: The metric.
        counts: How often each subject is drawn, of shape (resamples, subjects).

    Returns:
        Of shape (resamples,), NaN where the metric is not defined.
    """
    weighted = _WEIGHTED.get(metric.name)
    size = max(1, _CHUNK // len(scored))
    parts = []
    for start in range(0, len(counts), size):
        weights = counts[start : start + size, scored.subject].astype(np.float64)
        if weighted is not None:
            with np.errstate(invalid="ignore", divide="ignore"):
                parts.append(weighted(scored, weights))
        else:
            parts.append(_one_by_one(scored, metric, weights))
    return np.concatenate(parts)


def _one_by_one(scored: Scored, metric: Metric, weights: FloatArray) -> FloatArray:
    rows = np.arange(len(scored))
    drawn = [np.repeat(rows, row.astype(np.int64)) for row in weights]
    return np.array([metric.function(scored.take(of_one)) for of_one in drawn])


def _mean(of_row: Callable[[Scored], FloatArray]) -> Weighted:
    def weighted(scored: Scored, weights: FloatArray) -> FloatArray:
        return np.asarray(weights @ of_row(scored) / weights.sum(axis=1))

    return weighted


def _absolute(scored: Scored) -> FloatArray:
    return np.abs(scored.predicted[:, 0] - scored.truth)


def _squared(scored: Scored) -> FloatArray:
    return np.asarray((scored.predicted[:, 0] - scored.truth) ** 2)


def _rmse(scored: Scored, weights: FloatArray) -> FloatArray:
    return np.sqrt(_mean(_squared)(scored, weights))


def _r_squared(scored: Scored, weights: FloatArray) -> FloatArray:
    total = weights.sum(axis=1)
    # About their mean, or large values with little spread lose their digits.
    truth = scored.truth - scored.truth.mean()
    spread = weights @ truth**2 - (weights @ truth) ** 2 / total
    spread = np.where(spread > 1e-12 * total, spread, np.nan)
    return np.asarray(1 - weights @ _squared(scored) / spread)


def _right(scored: Scored) -> FloatArray:
    return (scored.decided == scored.truth).astype(np.float64)


def _recall(scored: Scored, weights: FloatArray, label: int) -> FloatArray:
    of_class = weights * (scored.truth == label)
    return np.asarray(of_class @ _right(scored) / of_class.sum(axis=1))


def _balanced_accuracy(scored: Scored, weights: FloatArray) -> FloatArray:
    recalls = [_recall(scored, weights, c) for c in range(scored.predicted.shape[1])]
    return _mean_of_known(np.stack(recalls))


def _auc(scored: Scored, weights: FloatArray) -> FloatArray:
    """ROC-AUC within folds, each weighing by its pairs; of several classes, their mean."""
    n_classes = scored.predicted.shape[1]
    labels = [1] if n_classes == 2 else range(n_classes)
    return _mean_of_known(np.stack([_auc_of(scored, weights, label) for label in labels]))


def _auc_of(scored: Scored, weights: FloatArray, label: int) -> FloatArray:
    right, pairs = np.zeros(len(weights)), np.zeros(len(weights))
    for fold in np.unique(scored.fold):
        rows = np.flatnonzero(scored.fold == fold)
        order = rows[np.argsort(scored.predicted[rows, label], kind="stable")]
        score = scored.predicted[order, label]
        starts = np.flatnonzero(np.append(True, np.diff(score) != 0))
        is_positive = scored.truth[order] == label
        positive = np.add.reduceat(weights[:, order] * is_positive, starts, axis=1)
        negative = np.add.reduceat(weights[:, order] * ~is_positive, starts, axis=1)
        below = np.cumsum(negative, axis=1) - negative
        right += (positive * (below + negative / 2)).sum(axis=1)
        pairs += positive.sum(axis=1) * negative.sum(axis=1)
    return np.asarray(right / np.where(pairs > 0, pairs, np.nan))


def _mean_of_known(values: FloatArray) -> FloatArray:
    """The mean over the first axis of what is defined; NaN where nothing is."""
    known = ~np.isnan(values)
    count = known.sum(axis=0)
    total: npt.NDArray[np.float64] = np.where(known, values, 0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


_WEIGHTED: dict[str, Weighted] = {
    "mae": _mean(_absolute),
    "rmse": _rmse,
    "r2": _r_squared,
    "accuracy": _mean(_right),
    "balanced_accuracy": _balanced_accuracy,
    "sensitivity": lambda scored, weights: _recall(scored, weights, 1),
    "specificity": lambda scored, weights: _recall(scored, weights, 0),
    "auc": _auc,
}
