"""A finished run on a cohort that it has never seen: the test of whether it holds elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from braintune.cohort.cohort import Cohort
from braintune.cohort.tables import read_table, write_table_text
from braintune.errors import InputError, listing
from braintune.evaluation.baselines import Baseline, predict_baseline
from braintune.evaluation.operating_points import OperatingPoint
from braintune.evaluation.splits import Fold
from braintune.evaluation.subgroups import AGE_BANDS, by_group, check_bands, groupings
from braintune.evaluation.summary import Outcome, Rival, score, summarise
from braintune.files import make_folder, read_json, refuse_occupied, write_json, write_text
from braintune.fitting.model import Model, open_model
from braintune.fitting.predict import SEEN_WARNING, predict_cohort
from braintune.run import RunFolder
from braintune.studies.drift import (
    Home,
    calibration_drift,
    drift,
    points_document,
    read_home,
    within_sites,
)
from braintune.studies.robustness import robustness
from braintune.tasks.task import FloatArray, Scored, Task

KIND = "evaluation"
METRICS, PREDICTIONS = "metrics.json", "predictions.tsv"


@dataclass(frozen=True)
class Questions:
    """What is asked of an external cohort besides the scores.

    Attributes:
        points: Operating points, found on the run's validation rows; by default Youden's where
            there are two classes.
        age_bands: Ages at which one band ends and the next begins.
        robustness: Whether the scans are made worse on purpose, and scored again.
    """

    points: Sequence[str] = ()
    age_bands: Sequence[float] = AGE_BANDS
    robustness: bool = False


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


def evaluate(
    path: Path,
    cohort: Cohort,
    out: Path,
    workers: int | None = None,
    questions: Questions | None = None,
) -> dict[str, Any]:
    """Score a finished run on an external cohort, as it is: nothing is fitted anew.

    The networks of all folds are averaged, the operating point is the mean of those that their
    validation rows gave. Baselines are fitted on the run's table. Each opening of a cohort is noted
    in the run's ledger.

    Args:
        path: The run.
        cohort: The external scans, with the target.
        out: A new or empty folder, for ``metrics.json`` and ``predictions.tsv``.
        workers: Processes that prepare scans, by default one a core.
        questions: What else is asked.

    Returns:
        What ``metrics.json`` says.

    Raises:
        InputError: If the run is not finished, the target is missing, a question can't be asked of
            it, or a subject or a scan was in the run; nothing is written then.
    """
    questions = questions or Questions()
    run, model = RunFolder(path), open_model(path)
    if not run.is_complete:
        raise InputError(f"{path} is no finished run. Give the same fit command again.")
    refuse_occupied(out, "the evaluation")
    task = model.members[0].task
    points = _points(questions, task)
    check_bands(questions.age_bands)
    cohort, truth = _with_truth(cohort, task)
    known = read_table(run.cohort_file)
    _refuse_known_subjects(cohort, known)
    table = predict_cohort(model, cohort, workers)
    _refuse_known_scans(table)
    used = table["problem"].isna()
    if not used.any():
        raise InputError(f"No scan could be used. {table['problem'].iloc[0]}")
    reasons = table["problem"].astype("string")
    seen = cohort.keep(used, reasons)
    external = _lined_up(seen, truth[used.to_numpy()], known, task)
    home = read_home(run, task, len(model.members))
    document, scored = _scores(external, seen.table, task, table[used], model)
    document |= _beside_home(document, scored, home, task, points)
    document["subgroups"] = {
        grouping.name: by_group(scored, grouping, task)
        for grouping in groupings(seen.table, questions.age_bands)
    }
    document["within_sites"] = within_sites(scored, seen.table, task)
    document["robustness"] = None
    if questions.robustness:
        document["robustness"] = robustness(model, seen, scored, workers)
    document |= {
        "kind": KIND,
        "run": str(path.resolve()),
        "cohort": str(cohort.source),
        "target": task.target,
        "unit": getattr(task, "unit", ""),
        "excluded": [{"id": left.id, "reason": left.reason} for left in seen.exclusions],
    }
    make_folder(out)
    predictions = table.assign(**{task.target: cohort.table[task.target].to_numpy()})
    write_text(out / PREDICTIONS, write_table_text(predictions))
    write_json(out / METRICS, document)
    run.note("external cohort opened", cohort=str(cohort.source), scans=int(used.sum()))
    return dict(read_json(out / METRICS))


def is_evaluation(path: Path) -> bool:
    """Whether a folder is what `evaluate` wrote."""
    file = path / METRICS
    return file.is_file() and read_json(file).get("kind") == KIND


def _points(questions: Questions, task: Task) -> list[OperatingPoint]:
    if task.n_outputs != 2:
        if questions.points:
            raise InputError(
                f"Operating points are of two classes; {task.target} has"
                f" {task.n_outputs if task.n_outputs > 1 else 'no'} classes. Leave"
                " --operating-point out."
            )
        return []
    return [OperatingPoint.parse(text) for text in questions.points or ("youden",)]


def _beside_home(
    document: dict[str, Any],
    scored: Scored,
    home: Home,
    task: Task,
    points: Sequence[OperatingPoint],
) -> dict[str, Any]:
    """What the run said of its own subjects, and how far the external ones are from it."""
    headline = task.metrics[document["headline"]]
    return {
        "home": home.document(),
        "drift": drift(scored, home.scored, headline),
        "calibration": calibration_drift(scored, home.scored, task),
        "operating_points": points_document(points, scored, home),
    }


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
    external: External, people: pd.DataFrame, task: Task, table: pd.DataFrame, model: Model
) -> tuple[dict[str, Any], Scored]:
    """metrics.json of the external rows, and the rows."""
    predicted = np.full((len(external.both), len(task.columns())), np.nan)
    predicted[external.fold.test] = table[task.columns()].astype("float64").to_numpy()
    threshold = float(np.mean([member.threshold for member in model.members]))
    parts = (external.both, task, external.truth, [external.fold])
    outcome = Outcome(predicted, None, [threshold])
    document = summarise(*parts, outcome, _site_bound(external, people, task))
    document["threshold"] = None if np.isnan(threshold) else threshold
    return document, score(*parts, predicted, [threshold])


def _site_bound(external: External, people: pd.DataFrame, task: Task) -> list[Rival]:
    """What a model knows that is told each external site's own mean or shares, and nothing else.

    The sites of an external cohort are new to the run, whose site-only model knows nothing of
    them. This one is fitted on the very rows that it predicts: nothing that sees the site alone can
    do better, so that a network which does not beat it may owe its score to where people were
    scanned.
    """
    if "site" not in people or task.target == "site" or people["site"].nunique(dropna=False) < 2:
        return []
    test = external.fold.test
    ours = ["the run"] * (len(external.both) - len(test))
    sites = [*ours, *people["site"].fillna("n/a")]
    both = Cohort(external.both.source, external.both.table.assign(site=sites))
    bound = Baseline("site_bound", "site only, told this cohort's own answers", ("site",))
    fold = Fold("external", test, test[:0], test)
    predicted = predict_baseline(bound, both, task, external.truth, [fold])
    return [Rival(bound.name, bound.label, predicted)]
