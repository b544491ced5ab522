"""The run folder of a diagnosis: written once all is computed, and read back to predict.

There is no file of fitted classifiers: the only general one would be a pickle, which runs code when
it is opened. The run holds its own table and the hyperparameters that were chosen; fitting them
again takes seconds and gives the same models, which is checked against the run's predictions.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from braintune._version import __version__
from braintune.cohort.cohort import KEYS, Cohort
from braintune.cohort.tables import read_table, write_table_text
from braintune.errors import BraintuneError, InputError
from braintune.evaluation.splits import splits_table
from braintune.files import (
    digest,
    is_occupied,
    make_folder,
    read_json,
    write_json,
    write_lines,
    write_text,
)
from braintune.fitting.diagnosis import Diagnosis, out_of_fold, refit, views
from braintune.fitting.diagnosis_plan import DiagnosisPlan, plan_diagnosis
from braintune.fitting.diagnosis_recipe import DiagnosisRecipe
from braintune.run import RunFolder, describe_environment
from braintune.volumetry.searching import FittedClassifier

KIND = "diagnosis"
CHOSEN = "parameters.json"
IMPORTANCE = "importance.json"
# What another processor's rounding may change in a probability.
_SAME = 1e-5


@dataclass(frozen=True)
class DiagnosisModel:
    """A run's classifiers, fitted again.

    Attributes:
        plan: What was done.
        models: One a fold.
    """

    plan: DiagnosisPlan
    models: tuple[FittedClassifier, ...]


def is_diagnosis(path: Path) -> bool:
    """Whether a folder is a run of a diagnosis."""
    file = RunFolder(path).identity_file
    return file.is_file() and read_json(file).get("kind") == KIND


def check_free(out: Path, plan: DiagnosisPlan) -> None:
    """Refuse a folder that holds anything but an earlier run of the same recipe and table.

    Raises:
        InputError: If it does.
    """
    if not is_occupied(out):
        return
    if not is_diagnosis(out) or read_json(RunFolder(out).identity_file) != _identity(plan):
        msg = f"{out} is not empty, and is no run of this recipe and table. Choose another --out."
        raise InputError(msg)


def write_diagnosis(found: Diagnosis, out: Path, seconds: float) -> RunFolder:
    """Write a run; metrics.json is last, so that a run which has it is whole."""
    run, plan = RunFolder(out), found.plan
    make_folder(out)
    write_json(run.identity_file, _identity(plan))
    write_text(run.recipe_file, plan.recipe.dump())
    write_text(run.cohort_file, _table_text(plan.cohort))
    write_text(run.splits_file, write_table_text(splits_table(plan.cohort, plan.folds)))
    write_json(run.environment_file, describe_environment())
    write_text(run.predictions_file, write_table_text(_predictions(found)))
    write_json(out / CHOSEN, [model.parameters for model in found.models])
    write_json(out / IMPORTANCE, found.importance)
    write_lines(run.ledger_file, _events(plan))
    write_json(run.metrics_file, {**found.metrics, "seconds": seconds})
    return run


def open_diagnosis(path: Path) -> DiagnosisModel:
    """Fit a run's classifiers again, and check that they are those of the run.

    Raises:
        InputError: If the run is not whole, or its files were changed.
        BraintuneError: If the classifiers predict something else than the run's did, such as with
            another version of scikit-learn.
    """
    run = RunFolder.open(path)
    if not run.is_complete:
        raise InputError(f"{path} is not finished. Give the same diagnose command again.")
    recipe = DiagnosisRecipe.read(run.recipe_file)
    table = read_table(run.cohort_file)
    plan = plan_diagnosis(recipe, Cohort(path, _with_path(table)))
    if read_json(run.identity_file) != _identity(plan):
        msg = f"{run.recipe_file} or {run.cohort_file} is not what the run wrote. Run it again."
        raise InputError(msg)
    models = refit(plan, read_json(path / CHOSEN))
    _demand_same(plan, models, run)
    return DiagnosisModel(plan, tuple(models))


def _demand_same(plan: DiagnosisPlan, models: list[FittedClassifier], run: RunFolder) -> None:
    rows = {scan_id: number for number, scan_id in enumerate(plan.cohort.scan_ids)}
    written = read_table(run.predictions_file)
    there = written["scan_id"].map(rows).to_numpy()
    before = written[plan.task.columns()].astype("float64").to_numpy()
    after = out_of_fold(plan, views(plan)[0], models)[there]
    if not np.allclose(before, after, rtol=0, atol=_SAME):
        worst = float(np.abs(before - after).max())
        version = read_json(run.environment_file)["packages"].get("scikit-learn")
        msg = (
            f"Fitted again, the classifiers of {run.path} differ from the run's by up to"
            f" {worst:.2g} in a probability. Use scikit-learn {version}, as the run did, or run it"
            " again."
        )
        raise BraintuneError(msg)


def _identity(plan: DiagnosisPlan) -> dict[str, Any]:
    """What a run is of: the same recipe on the same rows has the same."""
    table = hashlib.sha256(_table_text(plan.cohort).encode()).hexdigest()
    recipe = digest(plan.recipe.model_dump(mode="json"))
    return {"kind": KIND, "recipe": recipe, "table_sha256": table, "version": __version__}


def _table_text(cohort: Cohort) -> str:
    return write_table_text(cohort.table.drop(columns=["path"]))


def _with_path(table: pd.DataFrame) -> pd.DataFrame:
    others = [name for name in table.columns if name not in KEYS]
    return table.assign(path="")[[*KEYS, *others]]


def _predictions(found: Diagnosis) -> pd.DataFrame:
    """Out-of-fold predictions, one row a scan that is tested."""
    plan = found.plan
    tables = []
    for fold in plan.folds:
        table = plan.cohort.table.iloc[fold.test][["scan_id", "participant_id", "session_id"]]
        predicted = found.predicted[fold.test]
        values = {
            column: [f"{value:.9g}" for value in part]
            for column, part in zip(plan.task.columns(), predicted.T, strict=True)
        }
        known = {"fold": fold.name, plan.task.target: plan.task.describe(plan.truth[fold.test])}
        decided = plan.task.describe(plan.task.decide(predicted, 0.5))
        tables.append(table.assign(**known, **values, predicted=decided))
    return pd.concat(tables, ignore_index=True)


def _events(plan: DiagnosisPlan) -> list[dict[str, Any]]:
    """Who was left out and why, and each opening of a fold's test rows."""
    excluded = [
        {"event": "excluded", "id": item.id, "reason": item.reason}
        for item in plan.cohort.exclusions
    ]
    opened = [
        {"event": "test opened", "fold": fold.name, "scans": len(fold.test)} for fold in plan.folds
    ]
    return [*excluded, *opened]
