"""How choices stand to each other: scores with intervals, corrected tests, groups, a sentence."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from braintune.evaluation.delong import delong
from braintune.evaluation.intervals import interval
from braintune.evaluation.paired import holm, nadeau_bengio, nadeau_bengio_many
from braintune.evaluation.resampling import resampled, subject_counts
from braintune.evaluation.splits import Fold
from braintune.studies.scores import Entry, demand_same_splits
from braintune.tasks.task import FloatArray, Metric

ALPHA = 0.05
CORRECTED_T, DELONG, BOOTSTRAP = (
    "Nadeau and Bengio's corrected t-test over folds",
    "DeLong's test",
    "paired bootstrap over subjects",
)


@dataclass(frozen=True)
class Comparison:
    """One entry against another.

    Attributes:
        difference: The first score less the second.
        low: Lower end of the interval over subjects.
        high: Upper end.
        p: Two-sided, of this pair alone.
        p_holm: Corrected for the family that the pair is of.
    """

    difference: float
    low: float
    high: float
    p: float
    p_holm: float = float("nan")

    @property
    def is_real(self) -> bool:
        """Whether the difference is more than noise."""
        return bool(self.p_holm < ALPHA)


class Standing:
    """Entries on the same splits, compared.

    Args:
        entries: What is compared, in any order.
        metric: By which score.
        folds: Of the splits.

    Raises:
        InputError: If they were scored on different splits.
    """

    def __init__(self, entries: Sequence[Entry], metric: Metric, folds: Sequence[Fold]) -> None:
        demand_same_splits(entries)
        self.metric, self._folds = metric, folds
        value = {id(e): metric.function(e.scored) for e in entries}
        sign = -1 if metric.higher_is_better else 1
        # Undefined scores come last.
        self.entries = sorted(
            entries, key=lambda e: (np.isnan(value[id(e)]), sign * value[id(e)], e.name)
        )
        self.values = np.array([value[id(entry)] for entry in self.entries])
        counts = subject_counts(self._n_subjects)
        self._samples = [resampled(entry.scored, metric, counts) for entry in self.entries]
        self._by_fold = [entry.by_fold(metric).mean(axis=1) for entry in self.entries]
        self.test = self._find_test()
        self._pairs = self._all_pairs()

    @property
    def _n_subjects(self) -> int:
        return int(max(entry.scored.subject.max() for entry in self.entries)) + 1

    def interval(self, number: int) -> Any:
        """An entry's score with its interval over subjects."""
        return interval(float(self.values[number]), self._samples[number])

    def pair(self, first: int, second: int) -> Comparison:
        """Two entries, corrected for all pairs: it holds whichever pair is looked at."""
        p, p_holm = self._pairs[min(first, second), max(first, second)]
        return replace(self._compare(first, second), p=p, p_holm=p_holm)

    def against(self, number: int) -> dict[int, Comparison]:
        """Each entry against one that was named before the scores were seen."""
        others = [other for other in range(len(self.entries)) if other != number]
        found = [self._compare(other, number) for other in others]
        corrected = holm([one.p for one in found])
        return {
            other: replace(one, p_holm=p)
            for other, one, p in zip(others, found, corrected, strict=True)
        }

    def are_told_apart(self, first: int, second: int) -> bool:
        """Whether two entries differ by more than noise, corrected for all pairs."""
        return bool(self._pairs[min(first, second), max(first, second)][1] < ALPHA)

    def groups(self) -> list[tuple[int, int]]:
        """Runs of neighbours in the order of scores of which no two are told apart.

        Returns:
            First and last number of each run that no longer run holds.
        """
        count = len(self.entries)
        found: list[tuple[int, int]] = []
        for first in range(count):
            last = first
            while last + 1 < count and not any(
                self.are_told_apart(i, last + 1) for i in range(first, last + 1)
            ):
                last += 1
            if not found or last > found[-1][1]:
                found.append((first, last))
        return found

    def ranks(self) -> FloatArray:
        """Mean rank of each entry over folds, ties shared; 1 is best."""
        scores = np.stack(self._by_fold)
        ordered = scores if not self.metric.higher_is_better else -scores
        below = (ordered[None] < ordered[:, None]).sum(axis=1)
        same = (ordered[None] == ordered[:, None]).sum(axis=1)
        return np.asarray((below + (same + 1) / 2).mean(axis=1))

    def _find_test(self) -> str:
        if len(self._folds) > 1:
            return CORRECTED_T
        scored = self.entries[0].scored
        test = self._folds[0].test
        once = len(np.unique(scored.subject)) == len(test)
        return DELONG if self._is_binary_auc and once else BOOTSTRAP

    @property
    def _is_binary_auc(self) -> bool:
        return self.metric.name == "auc" and self.entries[0].scored.predicted.shape[1] == 2

    def _all_pairs(self) -> dict[tuple[int, int], tuple[float, float]]:
        """The probability of each pair, alone and corrected for all of them."""
        pairs = list(combinations(range(len(self.entries)), 2))
        if self.test == CORRECTED_T and pairs:
            scores, ends = np.stack(self._by_fold), np.array(pairs)
            differences = scores[ends[:, 0]] - scores[ends[:, 1]]
            alone = nadeau_bengio_many(differences, *self._rows).tolist()
        else:
            alone = [self._p(first, second) for first, second in pairs]
        return dict(zip(pairs, zip(alone, holm(alone), strict=True), strict=True))

    def _compare(self, first: int, second: int) -> Comparison:
        samples = self._samples[first] - self._samples[second]
        around = interval(float(self.values[first] - self.values[second]), samples)
        return Comparison(around.value, around.low, around.high, self._p(first, second))

    def _p(self, first: int, second: int) -> float:
        if self.test == CORRECTED_T:
            differences = self._by_fold[first] - self._by_fold[second]
            return nadeau_bengio(differences.tolist(), *self._rows).p
        if self.test == DELONG:
            return self._delong(first, second)
        return bootstrap_p(self._samples[first] - self._samples[second])

    @property
    def _rows(self) -> tuple[float, float]:
        """Rows that a fold learns from, and that it tests, on average."""
        learnt = [len(fold.train) + len(fold.validation) for fold in self._folds]
        return float(np.mean(learnt)), float(np.mean([len(fold.test) for fold in self._folds]))

    def _delong(self, first: int, second: int) -> float:
        scores = [
            entry.scored.predicted[:, 1].reshape(entry.seeds, -1)
            for entry in (self.entries[first], self.entries[second])
        ]
        rows = len(self._folds[0].test)
        positive = self.entries[first].scored.truth[:rows] == 1
        return delong(positive, scores[0], scores[1]).p


def bootstrap_p(samples: FloatArray) -> float:
    """Two-sided probability of no difference, from resampled differences.

    Twice the smaller share of resamples on one side of none, and never quite zero.

    Example:
        >>> bootstrap_p(np.array([0.1, 0.2, 0.3, 0.2]))
        0.4
    """
    known = samples[~np.isnan(samples)]
    if not len(known):
        return float("nan")
    side = min(int((known >= 0).sum()), int((known <= 0).sum()))
    return float(min(1.0, 2 * (side + 1) / (len(known) + 1)))
