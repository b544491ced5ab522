"""metrics.json: every number with its interval, beside the baselines."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from braintune.cohort.cohort import Cohort
from braintune.evaluation.baselines import predict_baseline, trivial_baselines
from braintune.evaluation.intervals import (
    LEVEL,
    RESAMPLES,
    Interval,
    bootstrap_rows,
    difference_interval,
    metric_intervals,
)
from braintune.evaluation.paired import holm, nadeau_bengio
from braintune.evaluation.splits import Fold
from braintune.tasks.task import FloatArray, Metric, Scored, Task

# Below this many subjects of a class, bootstrap intervals are themselves uncertain.
_FEW_SUBJECTS = 50


@dataclass(frozen=True)
class Outcome:
    """Out-of-fold predictions of a whole run.

    Attributes:
        predicted: Of shape (scans, columns), NaN for scans that no fold tests.
        adjusted: Bias-adjusted values of shape (scans,), or None where the task has none.
        thresholds: The operating point of each fold.
    """

    predicted: FloatArray
    adjusted: FloatArray | None
    thresholds: list[float]


@dataclass(frozen=True)
class Rival:
    """Out-of-fold predictions of another model, which stand beside the trivial baselines.

    Attributes:
        name: Its key in metrics.json.
        label: What people read.
        predicted: Of shape (scans, columns), NaN for scans that no fold tests.
    """

    name: str
    label: str
    predicted: FloatArray


def summarise(
    cohort: Cohort,
    task: Task,
    truth: FloatArray,
    folds: Sequence[Fold],
    outcome: Outcome,
    rivals: Sequence[Rival] = (),
) -> dict[str, Any]:
    """All that metrics.json says of a run."""
    scored = score(cohort, task, truth, folds, outcome.predicted, outcome.thresholds)
    rows = bootstrap_rows(scored)
    metrics = list(task.metrics.values())
    intervals = metric_intervals(scored, metrics, rows)
    document: dict[str, Any] = {
        "headline": metrics[0].name,
        "scans": len(scored),
        "subjects": len(np.unique(scored.subject)),
        "folds": len(folds),
        "interval": {
            "level": LEVEL,
            "method": "percentile bootstrap over subjects",
            "resamples": RESAMPLES,
        },
        "metrics": {m.name: _entry(m, intervals[m.name], scored) for m in metrics},
        "adjusted": None,
        "cautions": _cautions(task, scored),
    }
    if outcome.adjusted is not None:
        adjusted = replace(scored, predicted=outcome.adjusted[_tested(folds)][:, None])
        adjusted_intervals = metric_intervals(adjusted, metrics, rows)
        document["adjusted"] = {
            m.name: _entry(m, adjusted_intervals[m.name], adjusted) for m in metrics
        }
    others = [*_trivial(cohort, task, truth, folds), *rivals]
    document["baselines"] = _baselines(cohort, task, truth, folds, scored, rows, others)
    return document


def _trivial(cohort: Cohort, task: Task, truth: FloatArray, folds: Sequence[Fold]) -> list[Rival]:
    return [
        Rival(b.name, b.label, predict_baseline(b, cohort, task, truth, folds))
        for b in trivial_baselines(cohort, task)
    ]


def score(
    cohort: Cohort,
    task: Task,
    truth: FloatArray,
    folds: Sequence[Fold],
    predicted: FloatArray,
    thresholds: Sequence[float],
) -> Scored:
    """Line the test rows of all folds up, with what was decided in each."""
    rows = _tested(folds)
    decided = np.concatenate(
        [
            task.decide(predicted[fold.test], threshold)
            for fold, threshold in zip(folds, thresholds, strict=True)
        ]
    )
    return Scored(
        truth=truth[rows],
        predicted=predicted[rows],
        decided=decided,
        fold=np.concatenate([np.full(len(f.test), i) for i, f in enumerate(folds)]),
        subject=pd.factorize(cohort.table["participant_id"])[0][rows].astype(np.int64),
    )


def _tested(folds: Sequence[Fold]) -> Any:
    return np.concatenate([fold.test for fold in folds])


def _entry(metric: Metric, interval: Interval, scored: Scored) -> dict[str, Any]:
    return {
        "label": metric.label,
        "value": interval.value,
        "low": interval.low,
        "high": interval.high,
        "folds": _by_fold(metric, scored),
        "higher_is_better": metric.higher_is_better,
        "chance": metric.chance,
    }


def _by_fold(metric: Metric, scored: Scored) -> list[float]:
    return [
        metric.function(scored.take(np.flatnonzero(scored.fold == fold)))
        for fold in np.unique(scored.fold)
    ]


def _baselines(
    cohort: Cohort,
    task: Task,
    truth: FloatArray,
    folds: Sequence[Fold],
    network: Scored,
    rows: list[Any],
    rivals: Sequence[Rival],
) -> dict[str, Any]:
    """Each baseline's metrics, and how much better the network is."""
    metrics = list(task.metrics.values())
    headline = metrics[0]
    documents: dict[str, dict[str, Any]] = {}
    for baseline in rivals:
        scored = score(cohort, task, truth, folds, baseline.predicted, [0.5] * len(folds))
        intervals = metric_intervals(scored, metrics, rows)
        gain = difference_interval(network, scored, headline, rows)
        pairs = zip(_by_fold(headline, network), _by_fold(headline, scored), strict=True)
        test = nadeau_bengio(
            [ours - theirs for ours, theirs in pairs],
            n_train=float(np.mean([len(fold.train) + len(fold.validation) for fold in folds])),
            n_test=float(np.mean([len(fold.test) for fold in folds])),
        )
        documents[baseline.name] = {
            "label": baseline.label,
            "metrics": {m.name: _entry(m, intervals[m.name], scored) for m in metrics},
            "network_minus_baseline": {
                "metric": headline.name,
                "value": gain.value,
                "low": gain.low,
                "high": gain.high,
                "p": test.p,
            },
        }
    gains = [document["network_minus_baseline"] for document in documents.values()]
    for gain_, corrected in zip(gains, holm([g["p"] for g in gains]), strict=True):
        gain_["p_holm"] = corrected
    return documents


def _cautions(task: Task, scored: Scored) -> list[str]:
    """What a reader should know before believing the numbers."""
    cautions = []
    if task.n_outputs > 1:
        for label in np.unique(scored.truth):
            count = len(np.unique(scored.subject[scored.truth == label]))
            if count < _FEW_SUBJECTS:
                name = task.describe(np.array([label]))[0]
                cautions.append(
                    f"Only {count} subjects are {name}: the intervals are themselves uncertain."
                )
    elif (count := len(np.unique(scored.subject))) < _FEW_SUBJECTS:
        cautions.append(f"Only {count} subjects: the intervals are themselves uncertain.")
    return cautions
