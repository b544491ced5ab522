"""Metrics of class probabilities.

Metrics of rank (ROC-AUC, average precision) compare only scans that the same fold tested: folds
have different models, whose scores are on slightly different scales, and pooling them biases the
result downwards (Airola et al., Comput. Stat. Data Anal. 55, 2011). Each fold weighs by its pairs.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from braintune.tasks.task import FloatArray, Metric, Scored

BoolArray = npt.NDArray[np.bool_]
_BINS = 10


def rank_auc(positive: BoolArray, score: FloatArray) -> tuple[float, float]:
    """ROC-AUC as the share of pairs in the right order, ties half, and the number of pairs."""
    n_positive = float(positive.sum())
    pairs = n_positive * (len(positive) - n_positive)
    if pairs == 0:
        return float("nan"), 0.0
    negatives = np.sort(score[~positive])
    below = np.searchsorted(negatives, score[positive], side="left").sum()
    not_above = np.searchsorted(negatives, score[positive], side="right").sum()
    return float(below + not_above) / 2 / pairs, pairs


def precision_auc(positive: BoolArray, score: FloatArray) -> tuple[float, float]:
    """Average precision, with ties taken together, and the number of positives."""
    n_positive = float(positive.sum())
    if n_positive == 0:
        return float("nan"), 0.0
    order = np.argsort(-score, kind="stable")
    ordered, hits = score[order], np.cumsum(positive[order])
    last = np.flatnonzero(np.append(np.diff(ordered) != 0, True))
    precision = hits[last] / (last + 1)
    gained = np.diff(hits[last], prepend=0)
    return float((precision * gained).sum() / n_positive), n_positive


def within_folds(
    scored: Scored, of: Callable[[BoolArray, FloatArray], tuple[float, float]], label: int
) -> float:
    """The average over folds of a metric of one class against the rest."""
    values = []
    for fold in np.unique(scored.fold):
        rows = scored.fold == fold
        values.append(of(scored.truth[rows] == label, scored.predicted[rows, label]))
    total = sum(weight for _, weight in values)
    if total == 0:
        return float("nan")
    return sum(value * weight for value, weight in values if weight > 0) / total


def auc(scored: Scored) -> float:
    """ROC-AUC of the positive class."""
    return within_folds(scored, rank_auc, 1)


def macro_auc(scored: Scored) -> float:
    """ROC-AUC of each class against the rest, averaged over classes."""
    return _macro(scored, rank_auc)


def average_precision(scored: Scored) -> float:
    """Average precision of the positive class."""
    return within_folds(scored, precision_auc, 1)


def macro_average_precision(scored: Scored) -> float:
    """Average precision of each class against the rest, averaged over classes."""
    return _macro(scored, precision_auc)


def accuracy(scored: Scored) -> float:
    """Share of right decisions."""
    return float((scored.decided == scored.truth).mean())


def balanced_accuracy(scored: Scored) -> float:
    """Share of right decisions in each class, averaged over the classes that are there."""
    recalls = [_recall(scored, c) for c in range(scored.predicted.shape[1])]
    return float(np.nanmean(recalls)) if not np.isnan(recalls).all() else float("nan")


def sensitivity(scored: Scored) -> float:
    """Share of the positive class that was decided for."""
    return _recall(scored, 1)


def specificity(scored: Scored) -> float:
    """Share of the negative class that was decided for."""
    return _recall(scored, 0)


def f1(scored: Scored) -> float:
    """Harmonic mean of precision and sensitivity of the positive class."""
    return _f1(scored, 1)


def macro_f1(scored: Scored) -> float:
    """F1 of each class, averaged over classes."""
    return float(np.mean([_f1(scored, c) for c in range(scored.predicted.shape[1])]))


def brier(scored: Scored) -> float:
    """Mean squared error of the probabilities: of the positive class, or summed over several."""
    if scored.predicted.shape[1] == 2:
        return float(np.mean((scored.predicted[:, 1] - scored.truth) ** 2))
    truth = np.eye(scored.predicted.shape[1])[scored.truth.astype(int)]
    return float(np.mean(((scored.predicted - truth) ** 2).sum(axis=1)))


def calibration_error(scored: Scored) -> float:
    """Expected calibration error over ten bins of equal width (Guo et al., ICML 2017).

    Of two classes it looks at the positive one's probability, of more at the likeliest one's.
    """
    if scored.predicted.shape[1] == 2:
        confidence, right = scored.predicted[:, 1], scored.truth == 1
    else:
        confidence = scored.predicted.max(axis=1)
        right = scored.predicted.argmax(axis=1) == scored.truth
    bins = np.clip((confidence * _BINS).astype(int), 0, _BINS - 1)
    gaps = np.bincount(bins, confidence - right, minlength=_BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def youden_threshold(truth: FloatArray, score: FloatArray) -> float:
    """The score from which sensitivity + specificity is largest, midway to the next lower score.

    Example:
        >>> youden_threshold(np.array([0.0, 0.0, 1.0]), np.array([0.1, 0.2, 0.6]))
        0.4
    """
    order = np.argsort(score)
    ordered, positive = score[order], truth[order] == 1
    if positive.all() or not positive.any():
        return 0.5
    missed = np.concatenate([[0.0], np.cumsum(positive) / positive.sum()])
    spared = np.concatenate([[0.0], np.cumsum(~positive) / (~positive).sum()])
    distinct = np.concatenate([[True], np.diff(ordered) != 0, [True]])
    best = int(np.where(distinct, spared - missed, -np.inf).argmax())
    if best in (0, len(ordered)):
        return 0.5
    return float((ordered[best - 1] + ordered[best]) / 2)


def _recall(scored: Scored, label: int) -> float:
    rows = scored.truth == label
    return float((scored.decided[rows] == label).mean()) if rows.any() else float("nan")


def _f1(scored: Scored, label: int) -> float:
    hits = float(((scored.decided == label) & (scored.truth == label)).sum())
    claims, there = float((scored.decided == label).sum()), float((scored.truth == label).sum())
    return 2 * hits / (claims + there) if claims + there else 0.0


def _macro(scored: Scored, of: Callable[[BoolArray, FloatArray], tuple[float, float]]) -> float:
    values = [within_folds(scored, of, c) for c in range(scored.predicted.shape[1])]
    return float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")


def _by_name(*metrics: Metric) -> dict[str, Metric]:
    return {metric.name: metric for metric in metrics}


_CALIBRATION = (
    Metric("brier", "Brier score", brier, higher_is_better=False),
    Metric("ece", "calibration error", calibration_error, higher_is_better=False),
)
BINARY = _by_name(
    Metric("auc", "ROC-AUC", auc, chance=0.5),
    Metric("balanced_accuracy", "balanced accuracy", balanced_accuracy, chance=0.5),
    Metric("accuracy", "accuracy", accuracy),
    Metric("sensitivity", "sensitivity", sensitivity),
    Metric("specificity", "specificity", specificity),
    Metric("f1", "F1", f1),
    Metric("average_precision", "average precision", average_precision),
    *_CALIBRATION,
)


def multiclass(classes: int) -> dict[str, Metric]:
    """The metrics of three classes or more."""
    return _by_name(
        Metric("auc", "ROC-AUC, one against the rest", macro_auc, chance=0.5),
        Metric("balanced_accuracy", "balanced accuracy", balanced_accuracy, chance=1 / classes),
        Metric("accuracy", "accuracy", accuracy),
        Metric("f1", "F1, averaged over classes", macro_f1),
        Metric("average_precision", "average precision", macro_average_precision),
        *_CALIBRATION,
    )
