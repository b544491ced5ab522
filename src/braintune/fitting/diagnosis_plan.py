"""A diagnosis' recipe and a table, checked against each other before anything is computed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from braintune.cohort.cohort import KEYS, Cohort, Exclusion
from braintune.cohort.tables import read_table
from braintune.errors import InputError, listing
from braintune.evaluation.splits import Fold, make_folds
from braintune.fitting.diagnosis_recipe import DiagnosisRecipe
from braintune.fitting.diagnosis_sites import demand_sites, kinds_with_sites
from braintune.recipe import CrossValidation
from braintune.tasks.task import FloatArray, Task, make_task
from braintune.volumetry.classifiers import HeadSizeRule
from braintune.volumetry.columns import ColumnKinds, check_columns, choose_volumes, demand_columns
from braintune.volumetry.harmonising import SiteRule
from braintune.volumetry.people import join_people
from braintune.volumetry.writing import TABLE

# make_folds sets rows aside for validation; here inner folds do that work, so it is little.
_VALIDATION = 0.1
_FEWEST_OF_A_CLASS = 4


@dataclass(frozen=True)
class DiagnosisPlan:
    """All that a diagnosis will do.

    Attributes:
        recipe: The recipe, its volumes named one by one.
        cohort: The rows that have a target and a volume; its exclusions name the others.
        task: The task, which knows the classes.
        truth: The class of each row.
        folds: Who trains and tests; nobody validates, since inner folds of training rows do.
        kinds: What the columns hold.
        frame: The columns, one row a scan.
    """

    recipe: DiagnosisRecipe
    cohort: Cohort
    task: Task
    truth: FloatArray
    folds: Sequence[Fold]
    kinds: ColumnKinds
    frame: pd.DataFrame

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """The class of each row as a whole number."""
        return self.truth.astype(np.int64)

    def head_size(self, columns: Sequence[str]) -> HeadSizeRule:
        """How head size is taken out of those columns that are volumes."""
        recipe = self.recipe
        volumes = tuple(name for name in recipe.volumes if name in columns)
        if recipe.normalise == "none" or not volumes:
            return HeadSizeRule()
        reference = None
        if recipe.reference is not None:
            names = [column.removeprefix("p_") for column in self.task.columns()]
            reference = names.index(recipe.reference)
        return HeadSizeRule(recipe.normalise, volumes, recipe.icv, reference)

    def sites(self, columns: Sequence[str]) -> SiteRule:
        """How sites are taken out of those columns that are volumes."""
        harmonise = self.recipe.harmonise
        volumes = tuple(name for name in self.recipe.volumes if name in columns)
        if harmonise is None or not volumes:
            return SiteRule()
        kinds = self.kinds.kinds
        return SiteRule(
            harmonise.site,
            volumes,
            tuple(name for name in harmonise.keep if kinds[name] == "number"),
            tuple(name for name in harmonise.keep if kinds[name] == "name"),
        )

    def seen_by_steps(self, columns: Sequence[str]) -> list[str]:
        """The columns that are learnt from, and those that only the steps before need."""
        rule = self.sites(columns)
        needed = () if rule.site is None else (rule.site, *rule.numbers, *rule.names)
        return list(dict.fromkeys([*columns, *needed]))


def read_rows(path: Path, people: Path | None = None) -> Cohort:
    """Read a table with one row a scan, and what else is known of its people.

    Args:
        path: A TSV or CSV with participant_id and columns to learn from, or a folder that
            `braintune volumes` wrote.
        people: A BIDS dataset or a table with participant_id and further columns.

    Raises:
        InputError: If it is no such table, or no participant of both is the same.
    """
    file = path / TABLE if path.is_dir() else path
    if path.is_dir() and not file.is_file():
        raise InputError(f"{path} holds no {TABLE}. Name the table itself.")
    table = read_table(file)
    if "participant_id" not in table.columns or table["participant_id"].isna().any():
        msg = f"{file} must have a participant_id in every row. Columns: {listing(table.columns)}."
        raise InputError(msg)
    if "session_id" not in table.columns:
        table["session_id"] = pd.Series(pd.NA, index=table.index, dtype="string")
    if "scan_id" not in table.columns:
        ids = table["participant_id"]
        table["scan_id"] = (ids + "_" + table["session_id"]).fillna(ids)
    exclusions: tuple[Exclusion, ...] = ()
    if people is not None:
        joined = join_people(table, people)
        table = joined.table
        reason = f"in {people.name}, but without volumes"
        exclusions = tuple(Exclusion(name, reason) for name in joined.without_rows)
    table["path"] = ""
    others = [name for name in table.columns if name not in KEYS]
    return Cohort(path, table[[*KEYS, *others]], exclusions)


def plan_diagnosis(recipe: DiagnosisRecipe, cohort: Cohort) -> DiagnosisPlan:
    """Check a recipe against a table and split it.

    Raises:
        InputError: If a column is missing or must not be learnt from, the target can't be told, or
            there are too few subjects.
    """
    task, encoded = make_task(recipe.task).read(cohort.column(recipe.target))
    recipe = recipe.model_copy(update={"volumes": choose_volumes(cohort.table, recipe.volumes)})
    demand_columns(cohort.table, recipe.covariates, str(cohort.source))
    if recipe.icv is not None:
        demand_columns(cohort.table, [recipe.icv], str(cohort.source))
    _check_reference(recipe, task)
    cohort, truth = _usable(recipe, cohort, encoded)
    columns = list(dict.fromkeys([*recipe.volumes, *recipe.covariates]))
    check_columns(cohort.table, columns, recipe.target)
    if recipe.icv is not None and recipe.normalise != "none" and recipe.icv not in columns:
        columns.append(recipe.icv)
    _demand_subjects(recipe, cohort, task, truth)
    kinds = kinds_with_sites(recipe, cohort, columns)
    _demand_numbers(kinds, recipe)
    folds = make_folds(cohort, task, truth, recipe.protocol, _VALIDATION, recipe.seed)
    demand_sites(recipe, cohort, folds)
    return DiagnosisPlan(
        recipe=recipe,
        cohort=cohort,
        task=task,
        truth=truth,
        folds=[_without_validation(fold) for fold in folds],
        kinds=kinds,
        frame=kinds.frame(cohort.table),
    )


def _usable(
    recipe: DiagnosisRecipe, cohort: Cohort, encoded: FloatArray
) -> tuple[Cohort, FloatArray]:
    """The rows with a target and at least one volume, the others with their reasons."""
    target = cohort.column(recipe.target)
    has_target = ~np.isnan(encoded)
    has_volume = cohort.table[recipe.volumes].notna().any(axis=1).reset_index(drop=True)
    reasons = f"the target {recipe.target} is " + target.fillna("missing").astype("string")
    reasons = reasons.where(target.isna(), reasons + ", which is not among the labels")
    reasons = reasons.reset_index(drop=True).mask(has_target, "has no volume")
    kept = has_volume & has_target
    return cohort.keep(kept, reasons), encoded[kept.to_numpy()]


def _check_reference(recipe: DiagnosisRecipe, task: Task) -> None:
    names = [column.removeprefix("p_") for column in task.columns()]
    if recipe.reference is not None and recipe.reference not in names:
        msg = f"The reference {recipe.reference!r} is no class; there are: {listing(names)}."
        raise InputError(msg)


def _demand_subjects(
    recipe: DiagnosisRecipe, cohort: Cohort, task: Task, truth: FloatArray
) -> None:
    """Refuse a class with too few subjects for the folds within folds."""
    protocol = recipe.protocol
    folds = protocol.folds if isinstance(protocol, CrossValidation) else 0
    needed = max(folds, _FEWEST_OF_A_CLASS)
    subjects = cohort.table["participant_id"].to_numpy()
    for code in range(task.n_outputs):
        count = len(np.unique(subjects[truth == code]))
        if count < needed:
            name = task.describe(np.array([float(code)]))[0]
            msg = (
                f"Only {count} subjects with a volume have {recipe.target} {name}; {needed} are"
                " needed. Use fewer --folds, leave that class out with --labels, or add subjects."
            )
            raise InputError(msg)


def _demand_numbers(kinds: ColumnKinds, recipe: DiagnosisRecipe) -> None:
    wanted = [*recipe.volumes, *([recipe.icv] if recipe.icv in kinds.kinds else [])]
    words = [str(name) for name in wanted if kinds.kinds[str(name)] != "number"]
    if words:
        msg = f"Volumes must be numbers; {listing(words)} hold words. Name them with --covariates."
        raise InputError(msg)


def _without_validation(fold: Fold) -> Fold:
    train = np.sort(np.concatenate([fold.train, fold.validation]))
    return replace(fold, train=train, validation=np.array([], dtype=np.intp))
