"""The end of a run: predictions of all folds together, scores, worst cases, the model."""

from typing import Any

import numpy as np
import pandas as pd

from braintune.cohort.tables import write_table_text
from braintune.evaluation.summary import Outcome, summarise
from braintune.files import write_bytes, write_json, write_text
from braintune.fitting.fold import read_fold
from braintune.fitting.model import save_model
from braintune.fitting.plan import FitPlan
from braintune.fitting.typicality import learn_typicality
from braintune.imaging.pictures import png, three_slices
from braintune.imaging.store import PreparedStore
from braintune.run import RunFolder
from braintune.tasks.task import FloatArray

_WORST = 8


def finish_run(run: RunFolder, plan: FitPlan, store: PreparedStore) -> None:
    """Score a run from the files of its folds, so that a resumed one can't differ."""
    folds = [read_fold(run, number) for number in range(len(plan.folds))]
    test = pd.concat([table[table["part"] == "test"] for table, _ in folds], ignore_index=True)
    write_text(run.predictions_file, write_table_text(test.drop(columns=["part"])))
    members = [description["member"] for _, description in folds]
    outcome = _outcome(plan, test, members)
    _write_cases(run, plan, store, outcome)
    _write_model(run, plan, store, members)
    document = summarise(plan.cohort, plan.task, plan.truth, plan.folds, outcome)
    document["seconds"] = sum(float(str(description["seconds"])) for _, description in folds)
    # Written last: a run with metrics is complete.
    write_json(run.metrics_file, document)
    run.note("scored")


def _outcome(plan: FitPlan, test: pd.DataFrame, members: list[Any]) -> Outcome:
    """Line the folds' predictions up with the cohort's rows."""
    row = {scan_id: number for number, scan_id in enumerate(plan.cohort.scan_ids)}
    rows = test["scan_id"].map(row).to_numpy()
    columns = plan.task.columns()
    predicted = np.full((len(plan.cohort), len(columns)), np.nan)
    predicted[rows] = test[columns].astype("float64").to_numpy()
    adjusted = None
    if (name := f"adjusted_{plan.task.target}") in test.columns:
        adjusted = np.full(len(plan.cohort), np.nan)
        adjusted[rows] = test[name].astype("float64").to_numpy()
    thresholds = [member["threshold"] for member in members]
    return Outcome(predicted, adjusted, [np.nan if t is None else float(t) for t in thresholds])


def _errors(plan: FitPlan, predicted: FloatArray) -> FloatArray:
    """How wrong each prediction is: years and the like, or the probability not given."""
    if plan.task.n_outputs == 1:
        return np.abs(predicted[:, 0] - plan.truth)
    chosen = predicted[np.arange(len(plan.truth)), plan.truth.astype(int)]
    return np.asarray(1 - chosen)


def _write_cases(run: RunFolder, plan: FitPlan, store: PreparedStore, outcome: Outcome) -> None:
    """Pictures of the scans that the run was most wrong about."""
    errors = np.nan_to_num(_errors(plan, outcome.predicted), nan=-np.inf)
    tested = [int(row) for row in np.argsort(-errors, kind="stable") if np.isfinite(errors[row])]
    cases = []
    for number, row in enumerate(tested[:_WORST], start=1):
        scan_id = plan.cohort.scan_ids[row]
        picture = f"{number}.png"
        slices = three_slices(store.read(scan_id)[0])
        write_bytes(run.cases_file.parent / picture, png(slices))
        cases.append({"scan_id": scan_id, "picture": picture, "error": float(errors[row])})
    write_json(run.cases_file, cases)


def _write_model(run: RunFolder, plan: FitPlan, store: PreparedStore, members: list[Any]) -> None:
    cohort = plan.cohort
    typicality = learn_typicality(
        (store.read(scan_id) for scan_id in cohort.scan_ids),
        cohort.table["brain_ml"].astype("float64").to_numpy(),
    )
    facts = {"typicality": typicality.state(), "seen": sorted(cohort.table["voxels"])}
    save_model(run.model_folder, plan.recipe, members, facts)
