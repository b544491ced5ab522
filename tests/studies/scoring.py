"""Synthetic test predictions whose truth is known, for the tests of comparisons."""

from collections.abc import Sequence

import numpy as np

from braintune.evaluation.splits import Fold
from braintune.studies.scores import Entry
from braintune.tasks.task import Scored


def folds_of(subjects: int, folds: int) -> list[Fold]:
    """Folds of one scan a subject, each subject tested once."""
    rows = np.arange(subjects)
    parts = [rows[rows % folds == number] for number in range(folds)]
    return [
        Fold(str(i + 1), np.setdiff1d(rows, part), rows[:0], part) for i, part in enumerate(parts)
    ]


def entry(
    name: str,
    truth: np.ndarray,
    predicted: np.ndarray,
    folds: Sequence[Fold],
    splits: str = "same",
    trivial: bool = False,
) -> Entry:
    """Predictions of a method.

    Args:
        predicted: Of shape (seeds, subjects), or (seeds, subjects, classes).
    """
    parts = [(fold.test, seed) for fold in folds for seed in range(len(predicted))]
    rows = np.concatenate([test for test, _ in parts])
    values = np.concatenate([predicted[seed][test] for test, seed in parts])
    values = values[:, None] if values.ndim == 1 else values
    fold = np.concatenate([np.full(len(test), i) for i, (test, _) in enumerate(parts)])
    decided = values[:, 0] if values.shape[1] == 1 else values.argmax(axis=1).astype(float)
    scored = Scored(truth[rows], values, decided, fold, rows)
    return Entry(name, trivial, splits, scored, len(predicted))


def probabilities(score: np.ndarray) -> np.ndarray:
    """Scores as probabilities of two classes, in the same order."""
    positive = 1 / (1 + np.exp(-score))
    return np.stack([1 - positive, positive], axis=-1)
