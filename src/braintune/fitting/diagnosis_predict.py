"""A finished diagnosis on a table that it has never seen."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from braintune.cohort.cohort import Cohort
from braintune.cohort.description import write_description
from braintune.cohort.tables import write_table_text
from braintune.errors import InputError
from braintune.files import make_folder, refuse_occupied, write_json, write_text
from braintune.fitting.diagnosis import views
from braintune.fitting.diagnosis_plan import DiagnosisPlan, read_rows
from braintune.fitting.diagnosis_run import DiagnosisModel, open_diagnosis
from braintune.fitting.diagnosis_sites import unseen_sites
from braintune.fitting.predict import Prediction
from braintune.volumetry.columns import demand_columns

# By how much of a column's range a value may lie outside of it without a warning.
_MARGIN = 0.25


def predict_diagnosis(run: Path, table: Path, out: Path) -> Prediction:
    """Apply a diagnosis to the rows of a table: the average of its folds' models.

    Args:
        run: A finished diagnosis.
        table: A table with the run's columns, or a folder that `braintune volumes` wrote.
        out: Where to write a BIDS derivative, new or empty.

    Raises:
        InputError: If the run is not whole, a column is missing or holds something else than in the
            run, or no row can be used.
    """
    refuse_occupied(out, "the predictions")
    rows = read_rows(table)
    model = open_diagnosis(run)
    demand_columns(rows.table, list(model.plan.kinds.kinds), str(table))
    predicted = predict_rows(model, rows)
    failed = int(predicted["problem"].notna().sum())
    if failed == len(predicted):
        raise InputError(
            f"{run} can use no row of {table}: {predicted['scan_id'].iloc[0]}"
            f" {predicted['problem'].iloc[0]}."
        )
    if not failed:
        predicted = predicted.drop(columns=["problem"])
    _write(out, model.plan, predicted)
    return Prediction(predicted, failed)


def predict_rows(model: DiagnosisModel, rows: Cohort) -> pd.DataFrame:
    """One row a scan: the class, mean and spread over folds of its probabilities, warnings."""
    plan = model.plan
    frame = plan.kinds.frame(rows.table)
    columns = plan.seen_by_steps(views(plan)[0].columns)
    values = np.stack([m.probabilities(frame[columns]) for m in model.models])
    mean, spread = values.mean(axis=0), values.std(axis=0, ddof=1 if len(values) > 1 else 0)
    table = rows.table[["scan_id", "participant_id", "session_id"]].copy()
    table[f"predicted_{plan.task.target}"] = plan.task.describe(plan.task.decide(mean, 0.5))
    for number, name in enumerate(plan.task.columns()):
        table[name] = [f"{value:.6g}" for value in mean[:, number]]
        table[f"{name}_sd"] = [f"{value:.3g}" for value in spread[:, number]]
    table["warning"] = _warnings(plan, frame, rows)
    empty = frame[plan.recipe.volumes].isna().all(axis=1).to_numpy()
    unknown = unseen_sites(plan.recipe, plan.cohort, rows)
    told = [name for name in table.columns if name.endswith("_sd") or name in plan.task.columns()]
    table.loc[empty | unknown, [f"predicted_{plan.task.target}", *told]] = None
    table["problem"] = [
        "has no volume" if is_empty else "is of a site that the run does not know" if new else None
        for is_empty, new in zip(empty, unknown, strict=True)
    ]
    return table


def _warnings(plan: DiagnosisPlan, frame: pd.DataFrame, rows: Cohort) -> list[str | None]:
    """How each row is unlike those of the fit."""
    seen = set(plan.cohort.table["participant_id"])
    texts: list[list[str]] = [[] for _ in range(len(frame))]
    for name, kind in plan.kinds.kinds.items():
        for row, value in enumerate(frame[name]):
            if kind == "name" and value not in set(plan.frame[name]):
                texts[row].append(f"{name} {value!r} is unknown to the run")
        if kind == "number":
            low, high = float(plan.frame[name].min()), float(plan.frame[name].max())
            margin = _MARGIN * (high - low)
            outside = (frame[name] < low - margin) | (frame[name] > high + margin)
            for row in np.flatnonzero(outside).tolist():
                texts[row].append(f"{name} is outside of the run's range, {low:g} to {high:g}")
    for row, participant in enumerate(rows.table["participant_id"]):
        if participant in seen:
            texts[row].append(
                "the run was fitted with this participant: no evidence of how good it is"
            )
    return ["; ".join(text) or None for text in texts]


def _write(out: Path, plan: DiagnosisPlan, table: pd.DataFrame) -> None:
    target = plan.task.target
    make_folder(out)
    write_description(out, f"Predictions of {target}")
    name = f"desc-{''.join(c for c in target if c.isalnum())}_predictions"
    texts: dict[str, Any] = {
        f"predicted_{target}": "the class that is likeliest, of two from a probability of one half",
        "warning": "why the row is unlike those that the run was fitted on",
        "problem": "why the row could not be used",
    }
    count = len(plan.folds)
    for column in plan.task.columns():
        texts[column] = f"mean probability over the models of {count} folds"
        texts[f"{column}_sd"] = f"standard deviation over the models of {count} folds"
    columns = {name: {"Description": text} for name, text in texts.items() if name in table}
    write_json(out / f"{name}.json", {"Recipe": plan.recipe.model_dump(mode="json"), **columns})
    write_text(out / f"{name}.tsv", write_table_text(table))
    write_text(out / ".bidsignore", "*_predictions.*\n")
