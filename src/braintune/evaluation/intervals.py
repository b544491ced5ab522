"""Intervals that resample subjects, not scans.

Scans of one subject are alike; taking them for independent makes intervals too narrow. Each
resample draws as many subjects as there are, with replacement, and takes all scans of each.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from braintune.tasks.task import IntArray, Metric, Scored

RESAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A value and the percentile bootstrap interval around it.

    Attributes:
        value: The estimate.
        low: Lower end, NaN where it is not defined.
        high: Upper end, NaN where it is not defined.
    """

    value: float
    low: float
    high: float

    def excludes(self, value: float) -> bool:
        """Whether a value lies outside."""
        return value < self.low or value > self.high


def bootstrap_rows(scored: Scored, seed: int = 0) -> list[npt.NDArray[np.intp]]:
    """Rows of each resample of subjects."""
    return subject_rows(scored.subject, seed)


def subject_rows(subjects: IntArray, seed: int = 0) -> list[npt.NDArray[np.intp]]:
    """Rows of each resample of subjects.

    Args:
        subjects: A number for the subject of each row.
        seed: The same seed draws the same resamples.
    """
    _, subject = np.unique(subjects, return_inverse=True)
    count = subject.max() + 1
    order = np.argsort(subject, kind="stable")
    starts = np.searchsorted(subject[order], np.arange(count + 1))
    blocks = [order[starts[i] : starts[i + 1]] for i in range(count)]
    random = np.random.default_rng([seed, 21])
    drawn = random.integers(count, size=(RESAMPLES, count))
    if len(subject) == count:  # one scan a subject: no need to join blocks
        return list(order[drawn])
    return [np.concatenate([blocks[i] for i in draw]) for draw in drawn]


def metric_intervals(
    scored: Scored, metrics: Sequence[Metric], rows: list[npt.NDArray[np.intp]]
) -> dict[str, Interval]:
    """Each metric with its interval, over the same resamples."""
    samples = metric_samples(scored, metrics, rows)
    return {
        metric.name: interval(metric.function(scored), samples[metric.name]) for metric in metrics
    }


def metric_samples(
    scored: Scored, metrics: Sequence[Metric], rows: list[npt.NDArray[np.intp]]
) -> dict[str, npt.NDArray[np.float64]]:
    """Each metric of each resample, of shape (resamples,)."""
    samples: dict[str, list[float]] = {metric.name: [] for metric in metrics}
    for drawn in rows:
        sample = scored.take(drawn)
        for metric in metrics:
            samples[metric.name].append(metric.function(sample))
    return {name: np.array(values) for name, values in samples.items()}


def difference_interval(
    first: Scored, second: Scored, metric: Metric, rows: list[npt.NDArray[np.intp]]
) -> Interval:
    """How much more of a metric the first predictions have, paired: over the same subjects."""
    samples = [metric.function(first.take(r)) - metric.function(second.take(r)) for r in rows]
    return interval(metric.function(first) - metric.function(second), np.array(samples))


def interval(value: float, samples: npt.NDArray[np.float64]) -> Interval:
    """The percentile interval; too many undefined resamples leave it undefined."""
    defined = samples[~np.isnan(samples)]
    if len(defined) < len(samples) / 2:
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, float(low), float(high))
