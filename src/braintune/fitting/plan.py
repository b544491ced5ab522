"""A recipe and a cohort, checked against each other before anything is written."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd

from braintune.cohort.cohort import Cohort
from braintune.errors import InputError, listing
from braintune.evaluation.splits import Fold, make_folds
from braintune.imaging.prepare import equal_scans
from braintune.recipe import CrossValidation, Recipe
from braintune.tasks.task import AnyTask, FloatArray, Task, make_task


class AnyPlan(Protocol):
    """What every fit will do, whatever its task."""

    @property
    def recipe(self) -> Recipe:
        """The recipe."""
        ...

    @property
    def cohort(self) -> Cohort:
        """The scans that are learnt from; its exclusions name the others."""
        ...

    @property
    def task(self) -> AnyTask:
        """The task."""
        ...

    @property
    def folds(self) -> Sequence[Fold]:
        """Who trains, validates and tests."""
        ...


@dataclass(frozen=True)
class FitPlan:
    """All that a fit of one value a scan will do.

    Attributes:
        recipe: The recipe.
        cohort: The scans that have a target; its exclusions name the others.
        task: The task, which knows the target's classes.
        truth: The encoded target of each scan.
        folds: Who trains, validates and tests.
    """

    recipe: Recipe
    cohort: Cohort
    task: Task
    truth: FloatArray
    folds: Sequence[Fold]


def plan_fit(recipe: Recipe, cohort: Cohort) -> FitPlan:
    """Check a recipe against a cohort and split it.

    Raises:
        InputError: If the task is unknown, a column is missing, the target can't be learnt, or
            there are too few subjects.
    """
    task, encoded = make_task(recipe.task).read(cohort.column(recipe.task.target))
    known = pd.Series(~np.isnan(encoded))
    cohort = cohort.keep(known, _reasons(cohort, recipe.task.target))
    truth = encoded[known.to_numpy()]
    _demand_subjects(cohort, task, truth, recipe)
    folds = make_folds(cohort, task, truth, recipe.protocol, recipe.train.validation, recipe.seed)
    return FitPlan(recipe, cohort, task, truth, folds)


def refuse_equal_scans(cohort: Cohort) -> None:
    """Refuse the same scan under two subjects, which could train and test at once.

    Raises:
        InputError: With all such scans.
    """
    groups = equal_scans(cohort)
    if groups:
        pairs = "; ".join(listing(group) for group in groups)
        msg = (
            f"Scans of different subjects are equal to the voxel: {pairs}. One subject would be on"
            " both sides of a split. Keep one of each with --exclude, or give them one"
            " participant_id."
        )
        raise InputError(msg)


def _reasons(cohort: Cohort, target: str) -> pd.Series:
    values = cohort.column(target)
    reasons = "the target " + target + " is " + values.fillna("missing").astype("string")
    return reasons.where(values.isna(), reasons + ", which is not among the recipe's labels")


def _demand_subjects(cohort: Cohort, task: Task, truth: FloatArray, recipe: Recipe) -> None:
    """Refuse a class that has fewer subjects than there are folds."""
    protocol = recipe.protocol
    if task.n_outputs == 1 or not isinstance(protocol, CrossValidation):
        return
    subjects = cohort.table["participant_id"].to_numpy()
    for code in np.unique(truth):
        count = len(np.unique(subjects[truth == code]))
        if count < protocol.folds:
            name = task.describe(np.array([code]))[0]
            msg = (
                f"Only {count} subjects have {task.target} {name}, fewer than the"
                f" {protocol.folds} folds. Set 'protocol: {{folds: {max(count, 2)}}}' or add"
                " subjects."
            )
            raise InputError(msg)
