"""What each column is worth: how much worse test rows are told when it is permuted among them.

Breiman's permutation importance (Mach. Learn. 45, 2001) on test rows, for each fold's model. A
column that others can stand in for has little of it, though it may know much.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from braintune.evaluation.intervals import LEVEL, bootstrap_rows
from braintune.fitting.diagnosis_plan import DiagnosisPlan
from braintune.tasks.task import FloatArray, Scored
from braintune.volumetry.searching import FittedClassifier, log_losses


def permutation_importance(
    plan: DiagnosisPlan,
    columns: Sequence[str],
    models: Sequence[FittedClassifier],
    scored: Scored,
) -> list[dict[str, Any]]:
    """The importance of every column, the largest first.

    Args:
        plan: What was done.
        columns: What the models see.
        models: One a fold.
        scored: The test rows of all folds, in the folds' order.

    Returns:
        For each column the mean rise of the log loss (nats) with its interval over subjects, the
        rise in each fold, and the mean fall of the headline metric in each fold.
    """
    before = log_losses(scored.predicted, scored.truth.astype(np.int64))
    rows = bootstrap_rows(scored)
    entries = []
    for number, name in enumerate(columns):
        rise, falls = _permuted(plan, columns, models, scored, before, number)
        samples = np.array([rise[drawn].mean() for drawn in rows])
        low, high = np.quantile(samples, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        folds = [float(rise[scored.fold == fold].mean()) for fold in np.unique(scored.fold)]
        entries.append(
            {
                "column": name,
                "log_loss_rise": {"value": float(rise.mean()), "low": low, "high": high},
                "log_loss_rise_folds": folds,
                "headline_fall_folds": falls,
            }
        )
    return sorted(entries, key=lambda entry: -float(entry["log_loss_rise"]["value"]))


def _permuted(
    plan: DiagnosisPlan,
    columns: Sequence[str],
    models: Sequence[FittedClassifier],
    scored: Scored,
    before: FloatArray,
    number: int,
) -> tuple[FloatArray, list[float]]:
    """The rise of each row's loss, and the fall of the headline in each fold, over repeats."""
    headline = next(iter(plan.task.metrics.values()))
    repeats = plan.recipe.importance_repeats
    rise = np.zeros(len(scored))
    falls = []
    start = 0
    for index, (fold, model) in enumerate(zip(plan.folds, models, strict=True)):
        place = np.arange(start, start + len(fold.test))
        start += len(fold.test)
        part = scored.take(place)
        frame = plan.frame[plan.seen_by_steps(columns)].iloc[fold.test].reset_index(drop=True)
        random = np.random.default_rng([plan.recipe.seed, 33, number, index])
        fall = []
        for _ in range(repeats):
            order = random.permutation(len(frame))
            changed = frame.assign(**{columns[number]: frame[columns[number]].to_numpy()[order]})
            predicted = model.probabilities(changed)
            rise[place] += (
                log_losses(predicted, part.truth.astype(np.int64)) - before[place]
            ) / repeats
            worse = Scored(
                part.truth,
                predicted,
                plan.task.decide(predicted, 0.5),
                part.fold,
                part.subject,
            )
            fall.append(headline.function(part) - headline.function(worse))
        falls.append(float(np.mean(fall)))
    return rise, falls
