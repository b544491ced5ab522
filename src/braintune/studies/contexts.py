"""What choices are compared in: one cohort, one target, one share of the training subjects.

All choices of a context have the same splits. They lie in a file, whose hash stands in every score.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from braintune.cohort.cohort import Cohort
from braintune.cohort.read import read_cohort
from braintune.cohort.tables import read_table, write_table_text
from braintune.errors import BraintuneError, InputError, listing
from braintune.evaluation.splits import Fold, splits_table
from braintune.fitting.plan import FitPlan, plan_fit
from braintune.recipe import Recipe, TaskRecipe
from braintune.studies.recipe import StudyRecipe, changed
from braintune.tasks.task import FloatArray, Metric, Task, make_task


@dataclass(frozen=True)
class Context:
    """Where choices are compared.

    Attributes:
        cohort: The cohort's name.
        target: The column.
        fraction: Of the training subjects.
        task: The plain values of the section ``task``.
        splits: The text of the splits file.
        plan: The cohort's rows with a target, and the folds.
    """

    cohort: str
    target: str
    fraction: float
    task: dict[str, Any]
    splits: str
    plan: FitPlan

    @property
    def key(self) -> str:
        """Its name in files and tables.

        Two contexts of a study have two keys.
        """
        return f"{self.cohort}_{self.target}_{self.fraction:g}"

    @property
    def hash(self) -> str:
        """By which scores of these splits are known."""
        return splits_hash(self.splits)


def splits_hash(text: str) -> str:
    """The hash of a splits file."""
    return hashlib.sha256(text.encode()).hexdigest()


def read_cohorts(study: StudyRecipe, place: Path | None) -> dict[str, Cohort]:
    """The study's cohorts by name.

    Raises:
        InputError: If none is named, or two ways name one.
    """
    if (place is None) == (not study.cohorts):
        msg = "Give one cohort with --cohort, or several in the study's 'cohorts', and not both."
        raise InputError(msg)
    places = study.cohorts or {"cohort": str(place)}
    return {name: read_cohort(where, study.base.scans) for name, where in places.items()}


def contexts_of(study: StudyRecipe, cohorts: dict[str, Cohort]) -> list[Context]:
    """Every cohort with every target and fraction, each split once.

    Raises:
        InputError: If a target can't be learnt, or a cohort can't be split.
    """
    base = study.base.model_dump(mode="json", exclude_unset=True)
    targets = study.targets or {study.base.task.target: {}}
    found = []
    for name, cohort in cohorts.items():
        for target, section in targets.items():
            task = _task(base["task"], target, section)
            for fraction in sorted(study.fractions):
                values = changed({**base, "task": task}, {"protocol.fraction": fraction})
                plan = plan_fit(Recipe.parse(values), cohort)
                text = _splits_text(plan)
                found.append(Context(name, target, fraction, task, text, plan))
    return found


def metric_of(study: StudyRecipe, task: Task) -> Metric:
    """The score of a target: the study's, or the headline of the task.

    Raises:
        InputError: If the task has no metric of that name.
    """
    metrics = task.metrics
    if study.metric is None:
        return next(iter(metrics.values()))
    if study.metric not in metrics:
        msg = f"{task.target} has no metric {study.metric!r}. Metrics: {listing(metrics)}."
        raise InputError(msg)
    return metrics[study.metric]


@dataclass(frozen=True)
class Split:
    """A context as its files tell it.

    Attributes:
        cohort: The scans of the splits.
        task: Knows the target's classes.
        truth: The encoded target of each scan.
        folds: Who trains, validates and tests.
        hash: Of the splits file.
    """

    cohort: Cohort
    task: Task
    truth: FloatArray
    folds: Sequence[Fold]
    hash: str


def read_split(cohort_file: Path, splits_file: Path, recipe: TaskRecipe) -> Split:
    """A context from the files of a study.

    Raises:
        BraintuneError: If the files do not belong together.
    """
    text = splits_file.read_text(encoding="utf-8")
    splits, table = read_table(splits_file), read_table(cohort_file)
    wanted = table["scan_id"].isin(splits["scan_id"])
    cohort = Cohort(cohort_file, table[wanted].reset_index(drop=True))
    if len(cohort) != splits["scan_id"].nunique():
        raise BraintuneError(f"{splits_file} names scans that {cohort_file} lacks.")
    task, truth = make_task(recipe).read(cohort.column(recipe.target))
    row = pd.Series(np.arange(len(cohort)), index=cohort.table["scan_id"])
    folds = []
    for _, part in splits.groupby("fold", sort=False):
        rows = {
            side: row.loc[part.loc[part["part"] == side, "scan_id"]].to_numpy(dtype=np.intp)
            for side in ("train", "validation", "test")
        }
        folds.append(Fold(str(part["name"].iloc[0]), **rows))
    return Split(cohort, task, truth, folds, splits_hash(text))


def _task(base: dict[str, Any], target: str, section: dict[str, Any]) -> dict[str, Any]:
    """The section ``task`` of a target; another kind forgets the base's options."""
    if "kind" in section and section["kind"] != base["kind"]:
        return {**section, "target": target}
    return {**base, **section, "target": target}


def _splits_text(plan: FitPlan) -> str:
    """Who is on which side of each fold, with the target, so that its changes are noticed."""
    table = splits_table(plan.cohort, plan.folds)
    target = plan.cohort.table.set_index("scan_id")[plan.task.target]
    return write_table_text(table.assign(target=target.loc[table["scan_id"]].to_numpy()))
