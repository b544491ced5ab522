"""Telling classes from volumes and metadata: nested cross-validation of a classifier of columns.

Outer folds test; within the training rows of each, inner folds choose hyperparameters. Every step
(filling gaps, scaling, encoding, head size, sites) is fitted on the rows that the classifier learns
from.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from braintune.console import Progress, progress
from braintune.errors import InputError
from braintune.evaluation.splits import Fold, deal
from braintune.evaluation.summary import Outcome, Rival, score, summarise
from braintune.fitting.diagnosis_importance import permutation_importance
from braintune.fitting.diagnosis_plan import DiagnosisPlan
from braintune.tasks.task import FloatArray
from braintune.volumetry.classifiers import Parameters, classifier, make_steps
from braintune.volumetry.searching import FittedClassifier, Learner, fit_candidate, search

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class View:
    """Some of the columns, as if there were no others.

    Attributes:
        name: Its key in metrics.json.
        label: What people read.
        columns: The columns.
    """

    name: str
    label: str
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Diagnosis:
    """What a diagnosis found.

    Attributes:
        plan: What was done.
        predicted: Out-of-fold probabilities, of shape (rows, classes), NaN for untested rows.
        models: The full model of each fold.
        metrics: What metrics.json says.
        importance: One entry a column, the most important first.
    """

    plan: DiagnosisPlan
    predicted: FloatArray
    models: tuple[FittedClassifier, ...]
    metrics: dict[str, Any]
    importance: list[dict[str, Any]]


def views(plan: DiagnosisPlan) -> tuple[View, list[View]]:
    """All columns, and, where there are both kinds, volumes alone and metadata alone."""
    recipe = plan.recipe
    head = [recipe.icv] if recipe.icv in plan.kinds.kinds and recipe.normalise != "none" else []
    volumes = tuple(dict.fromkeys([*recipe.volumes, *(str(name) for name in head)]))
    covariates = tuple(recipe.covariates)
    everything = View("model", "the model", tuple(dict.fromkeys([*volumes, *covariates])))
    if not covariates:
        return everything, []
    return everything, [
        View("volumes", "the same model on volumes only", volumes),
        View("metadata", "the same model on metadata only", covariates),
    ]


def diagnose(plan: DiagnosisPlan) -> Diagnosis:
    """Fit and test a diagnosis, with its baselines; nothing is written."""
    full, partial_views = views(plan)
    with progress("Diagnosing", len(plan.folds) * (1 + len(partial_views))) as bar:
        models = _fit_folds(plan, full, bar)
        predicted = out_of_fold(plan, full, models)
        rivals = [
            Rival(view.name, view.label, out_of_fold(plan, view, _fit_folds(plan, view, bar)))
            for view in partial_views
        ]
    thresholds = [0.5] * len(plan.folds)
    outcome = Outcome(predicted, None, thresholds)
    metrics = summarise(plan.cohort, plan.task, plan.truth, plan.folds, outcome, rivals)
    scored = score(plan.cohort, plan.task, plan.truth, plan.folds, predicted, thresholds)
    importance = permutation_importance(plan, full.columns, models, scored)
    return Diagnosis(plan, predicted, tuple(models), metrics, importance)


def refit(plan: DiagnosisPlan, parameters: Sequence[Parameters]) -> list[FittedClassifier]:
    """The full model of each fold with the hyperparameters that were chosen before."""
    view, _ = views(plan)
    models = []
    for number, (fold, chosen) in enumerate(zip(plan.folds, parameters, strict=True)):
        fit = partial(fit_candidate, parameters=chosen)
        models.append(_fit(plan, view, fold, number, fit))
    return models


def out_of_fold(plan: DiagnosisPlan, view: View, models: Sequence[FittedClassifier]) -> FloatArray:
    """Each row's probabilities by the model of the fold that tests it."""
    predicted = np.full((len(plan.cohort), plan.task.n_outputs), np.nan)
    frame = plan.frame[plan.seen_by_steps(view.columns)]
    for fold, model in zip(plan.folds, models, strict=True):
        predicted[fold.test] = model.probabilities(frame.iloc[fold.test])
    return predicted


def _fit_folds(plan: DiagnosisPlan, view: View, bar: Progress) -> list[FittedClassifier]:
    models = []
    for number, fold in enumerate(plan.folds):
        models.append(_fit(plan, view, fold, number, search))
        bar.advance()
    return models


def _fit(plan: DiagnosisPlan, view: View, fold: Fold, number: int, fit: Any) -> FittedClassifier:
    """Fit the training rows of a fold in one of two ways: by search, or as chosen before."""
    kind = classifier(plan.recipe.model)
    seed = int(np.random.default_rng([plan.recipe.seed, 31, number]).integers(2**31))
    numbers = [c for c in view.columns if plan.kinds.kinds[c] == "number"]
    names = [c for c in view.columns if plan.kinds.kinds[c] == "name"]
    head_size = plan.head_size(view.columns)
    steps = partial(make_steps, numbers, names, head_size, plan.sites(view.columns))
    learner = Learner(kind, steps, seed)
    frame: pd.DataFrame = plan.frame[plan.seen_by_steps(view.columns)].iloc[fold.train]
    truth = plan.labels[fold.train]
    fitted: FittedClassifier = fit(learner, frame, truth, _inner_hands(plan, fold, number))
    return fitted


def _inner_hands(plan: DiagnosisPlan, fold: Fold, number: int) -> IntArray:
    """The inner fold that leaves each training row out; all rows of a subject have the same."""
    groups = pd.factorize(plan.cohort.table[plan.recipe.protocol.group])[0].astype(np.int64)
    truth = plan.labels[fold.train]
    fewest = min(
        len(np.unique(groups[fold.train][truth == code])) for code in range(plan.task.n_outputs)
    )
    hands = min(plan.recipe.inner_folds, fewest)
    if hands < 2:
        msg = (
            f"Fold {fold.name} would train on a single subject of a class. Use fewer --folds, or"
            " leave that class out with --labels."
        )
        raise InputError(msg)
    random = np.random.default_rng([plan.recipe.seed, 32, number])
    return deal(groups[fold.train], truth[:, None], hands, random)
