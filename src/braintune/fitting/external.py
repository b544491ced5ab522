"""A finished run on a cohort that it has never seen: the test of whether it holds elsewhere."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from braintune.cohort.cohort import Cohort
from braintune.cohort.tables import read_table, write_table_text
from braintune.errors import InputError, listing
from braintune.evaluation.calibration import RIGHT, calibration_metrics
from braintune.evaluation.intervals import bootstrap_rows, metric_intervals
from braintune.evaluation.splits import Fold
from braintune.evaluation.subgroups import by_subgroup
from braintune.evaluation.summary import Outcome, score, summarise
from braintune.files import make_folder, read_json, refuse_occupied, write_json, write_text
from braintune.fitting.model import Model, open_model
from braintune.fitting.predict import SEEN_WARNING, predict_cohort
from braintune.run import RunFolder
from braintune.tasks.task import FloatArray, Scored, Task


@dataclass(frozen=True)
class External:
    """An external cohort lined up with the cohort of the run.

    Attributes:
        both: The run's scans, then the external ones, with the columns that both tables have.
        truth: The encoded target of each row.
        fold: The run's rows train, the external ones are tested.
    """

    both: Cohort
    truth: FloatArray
    fold: Fold


def evaluate(path: Path, cohort: Cohort, out: Path, workers: int | None = None) -> dict[str, Any]:
    """Score a finished run on an external cohort, as it is: nothing is fitted anew.

    The networks of all folds are averaged, the operating point is the mean of those that their
    validation rows gave. Baselines are fitted on the run's table. Each opening of a cohort is noted
    in the run's ledger.

    Args:
        path: The run.
        cohort: The external scans, with the target.
        out: A new or empty folder, for ``metrics.json`` and ``predictions.tsv``.
        workers: Processes that prepare scans, by default one a core.

    Returns:
        What ``metrics.json`` says.

    Raises:
        InputError: If the run is not finished, the target is missing, or a subject or a scan was in
            the run; nothing is written then.
    """
    run, model = RunFolder(path), open_model(path)
    if not run.is_complete:
        raise InputError(f"{path} is no finished run. Give the same fit command again.")
    refuse_occupied(out, "the evaluation")
    task = model.members[0].task
    cohort, truth = _with_truth(cohort, task)
    known = read_table(run.cohort_file)
    _refuse_known_subjects(cohort, known)
    table = predict_cohort(model, cohort, workers)
    _refuse_known_scans(table)
    used = table["problem"].isna()
    if not used.any():
        raise InputError(f"No scan could be used. {table['problem'].iloc[0]}")
    reasons = table["problem"].astype("string")
    external = _lined_up(cohort.keep(used, reasons), truth[used.to_numpy()], known, task)
    document = _scores(external, task, table[used], model, _own_scores(run, task))
    document["excluded"] = [
        {"id": left.id, "reason": left.reason} for left in cohort.keep(used, reasons).exclusions
    ]
    make_folder(out)
    predictions = table.assign(**{task.target: cohort.table[task.target].to_numpy()})
    write_text(out / "predictions.tsv", write_table_text(predictions))
    write_json(out / "metrics.json", document)
    run.note("external cohort opened", cohort=str(cohort.source), scans=int(used.sum()))
    return dict(read_json(out / "metrics.json"))


def _with_truth(cohort: Cohort, task: Task) -> tuple[Cohort, FloatArray]:
    """The scans whose target the run knows, and their encoded targets."""
    column = cohort.column(task.target)
    truth = task.encode(column)
    known = pd.Series(~np.isnan(truth))
    reasons = "the target " + column.fillna("missing").astype("string") + " is not one of the run's"
    if not known.any():
        there = listing(sorted(column.dropna().unique()))
        raise InputError(
            f"No scan of {cohort.source} has a {task.target} that the run knows. There are:"
            f" {there}."
        )
    return cohort.keep(known, reasons), truth[known.to_numpy()]


def _refuse_known_subjects(cohort: Cohort, known: pd.DataFrame) -> None:
    both = sorted(set(cohort.table["participant_id"]) & set(known["participant_id"]))
    if both:
        msg = (
            f"{len(both)} subjects of {cohort.source} have ids of subjects whom the run was fitted"
            f" on: {listing(both)}. If they are the same people, this is no external cohort:"
            " --exclude them. If not, give them other ids."
        )
        raise InputError(msg)


def _refuse_known_scans(table: pd.DataFrame) -> None:
    seen = table["warning"].astype("string").str.contains(SEEN_WARNING, regex=False, na=False)
    if seen.any():
        msg = (
            f"Scans are equal to the voxel to scans that the run was fitted on:"
            f" {listing(table.loc[seen, 'scan_id'])}. --exclude them."
        )
        raise InputError(msg)


def _lined_up(cohort: Cohort, truth: FloatArray, known: pd.DataFrame, task: Task) -> External:
    """Put the run's table and the external one below each other, for the baselines."""
    shared = [name for name in known.columns if name in cohort.table.columns]
    ours, theirs = known[shared].assign(path=""), cohort.table[[*shared, "path"]]
    ours["scan_id"] = "run: " + ours["scan_id"]
    both = Cohort(cohort.source, pd.concat([ours, theirs], ignore_index=True))
    rows = np.arange(len(both))
    fold = Fold(str(cohort.source), rows[: len(known)], rows[:0], rows[len(known) :])
    return External(both, np.concatenate([task.encode(known[task.target]), truth]), fold)


def _scores(
    external: External, task: Task, table: pd.DataFrame, model: Model, own: Scored
) -> dict[str, Any]:
    """metrics.json of the external rows, of groups of people, and how calibration has drifted."""
    predicted = np.full((len(external.both), len(task.columns())), np.nan)
    predicted[external.fold.test] = table[task.columns()].astype("float64").to_numpy()
    threshold = float(np.mean([member.threshold for member in model.members]))
    outcome = Outcome(predicted, None, [threshold])
    parts = (external.both, task, external.truth, [external.fold])
    document = summarise(*parts, outcome)
    document["threshold"] = None if np.isnan(threshold) else threshold
    elsewhere = score(*parts, predicted, [threshold])
    headline = task.metrics[document["headline"]]
    tested = external.both.table.iloc[external.fold.test]
    document["subgroups"] = by_subgroup(elsewhere, headline, tested)
    document["calibration"] = _calibration(task, own, elsewhere)
    return document


def _calibration(task: Task, own: Scored, elsewhere: Scored) -> dict[str, Any]:
    """Each number of calibration on the run's own test rows and on the external ones."""
    metrics = calibration_metrics(task)
    found = {
        name: metric_intervals(scored, metrics, bootstrap_rows(scored))
        for name, scored in (("own", own), ("external", elsewhere))
    }
    return {
        metric.name: {
            "label": metric.label,
            "right": RIGHT[metric.name],
            **{name: asdict(intervals[metric.name]) for name, intervals in found.items()},
        }
        for metric in metrics
    }


def _own_scores(run: RunFolder, task: Task) -> Scored:
    """The run's predictions of its own test rows."""
    table = read_table(run.predictions_file)
    truth = task.encode(table[task.target])
    predicted = table[task.columns()].astype("float64").to_numpy()
    return Scored(
        truth=truth,
        predicted=predicted,
        decided=task.decide(predicted, 0.5),
        fold=pd.factorize(table["fold"])[0].astype(np.int64),
        subject=pd.factorize(table["participant_id"])[0].astype(np.int64),
    )
