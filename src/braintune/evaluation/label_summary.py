"""metrics.json of a fit of label maps: every number a label, with its interval over subjects.

Distances of scans in which a label was not found, or was found where there is none, are infinite:
they are left out of means, counted, and named as a caution. Dice counts these scans as 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from braintune.evaluation.intervals import LEVEL, RESAMPLES, Interval, interval, subject_rows

Values = npt.NDArray[np.float64]
# Below this many subjects, bootstrap intervals are themselves uncertain.
_FEW_SUBJECTS = 50


@dataclass(frozen=True)
class LabelMetric:
    """A number of a label of a scan, whose mean over scans is reported.

    Attributes:
        name: Its column, and its key in metrics.json.
        label: What people read.
        higher_is_better: Which way is up.
        is_averaged: Whether its mean over labels says something.
    """

    name: str
    label: str
    higher_is_better: bool
    is_averaged: bool = True


METRICS = (
    LabelMetric("dice", "Dice", higher_is_better=True),
    LabelMetric("hd95", "HD95 (mm)", higher_is_better=False),
    LabelMetric("assd", "average surface distance (mm)", higher_is_better=False),
    LabelMetric("nsd", "surface Dice at 1 mm", higher_is_better=True),
    LabelMetric(
        "volume_error_mm3", "volume error (mm³)", higher_is_better=False, is_averaged=False
    ),
    LabelMetric(
        "volume_error_percent", "volume error (%)", higher_is_better=False, is_averaged=False
    ),
)


def summarise_labels(scores: pd.DataFrame, labels: Sequence[str]) -> dict[str, Any]:
    """All that metrics.json says of a run.

    Args:
        scores: One row a test scan and label, with the columns of `LabelScores` as numbers.
        labels: The labels' names.

    Returns:
        ``metrics`` with the mean over labels of each metric and each metric of each label, and
        ``labels`` with the keys of each label's metrics.
    """
    scans = scores.drop_duplicates("scan_id").reset_index(drop=True)
    rows = subject_rows(pd.factorize(scans["participant_id"])[0].astype(np.int64))
    fold = pd.factorize(scans["fold"])[0]
    metrics: dict[str, Any] = {}
    keys: dict[str, dict[str, str]] = {name: {} for name in labels}
    for metric in METRICS:
        values = _of_labels(scores, metric.name, scans["scan_id"].tolist(), labels)
        if metric.is_averaged:
            metrics[metric.name] = _entry(metric, f"mean {metric.label}", values, rows, fold)
        for number, name in enumerate(labels):
            key = f"{metric.name}_{name}"
            keys[name][metric.name] = key
            of_label = values[:, [number]]
            metrics[key] = _entry(metric, f"{metric.label}, {name}", of_label, rows, fold)
    subjects = int(scans["participant_id"].nunique())
    return {
        "headline": METRICS[0].name,
        "scans": len(scans),
        "subjects": subjects,
        "folds": len(np.unique(fold)),
        "interval": {
            "level": LEVEL,
            "method": "percentile bootstrap over subjects",
            "resamples": RESAMPLES,
        },
        "metrics": metrics,
        "labels": keys,
        "adjusted": None,
        "baselines": {},
        "cautions": _cautions(scores, labels, subjects),
    }


def _of_labels(
    scores: pd.DataFrame, name: str, scan_ids: list[str], labels: Sequence[str]
) -> Values:
    """A metric of each scan and label, of shape (scans, labels); NaN for what is not finite."""
    columns = [
        scores[scores["label"] == label].set_index("scan_id")[name].reindex(scan_ids)
        for label in labels
    ]
    values = np.stack([column.to_numpy(float) for column in columns], axis=1)
    return np.where(np.isfinite(values), values, np.nan)


def _entry(
    metric: LabelMetric,
    label: str,
    values: Values,
    rows: list[npt.NDArray[np.intp]],
    fold: npt.NDArray[np.intp],
) -> dict[str, Any]:
    """The mean over scans (and labels), its interval, and its mean in each fold."""
    found: Interval = interval(_mean(values), np.array([_mean(values[drawn]) for drawn in rows]))
    return {
        "label": label,
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "folds": [_mean(values[fold == number]) for number in np.unique(fold)],
        "higher_is_better": metric.higher_is_better,
        "chance": None,
        "undefined": int(np.isnan(values).sum()),
    }


def _mean(values: Values) -> float:
    """The mean of what is defined: over scans for each label, then over labels."""
    defined = ~np.isnan(values)
    counts = defined.sum(axis=0)
    means = np.where(defined, values, 0).sum(axis=0)[counts > 0] / counts[counts > 0]
    return float(means.mean()) if len(means) else float("nan")


def _cautions(scores: pd.DataFrame, labels: Sequence[str], subjects: int) -> list[str]:
    """What a reader should know before believing the numbers."""
    cautions = []
    if subjects < _FEW_SUBJECTS:
        cautions.append(f"Only {subjects} subjects: the intervals are themselves uncertain.")
    for name in labels:
        of_label = scores[scores["label"] == name]
        missed = int(((of_label["reference_mm3"] > 0) & (of_label["volume_mm3"] == 0)).sum())
        invented = int(((of_label["reference_mm3"] == 0) & (of_label["volume_mm3"] > 0)).sum())
        absent = int((of_label["reference_mm3"] == 0).sum()) - invented
        if missed:
            cautions.append(
                f"{name} was not found at all in {missed} of {len(of_label)} scans: their Dice is"
                " 0, and they are left out of the mean distances."
            )
        if invented:
            cautions.append(
                f"{name} was found in {invented} scans whose reference has none: their Dice is 0,"
                " and they are left out of the mean distances."
            )
        if absent:
            cautions.append(
                f"{absent} scans have no {name}, rightly: their Dice is 1, and they have no"
                " distances."
            )
    return cautions
