"""From the files of a study to predictions that may be compared."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from braintune.errors import BraintuneError, InputError, listing
from braintune.evaluation.baselines import predict_baseline, trivial_baselines
from braintune.evaluation.splits import Fold
from braintune.files import read_json
from braintune.studies.choices import Choice
from braintune.studies.contexts import Split
from braintune.studies.execute import final_fits, read_cell
from braintune.studies.folder import StudyFolder
from braintune.studies.plan import Cell, StudyPlan
from braintune.tasks.task import FloatArray, Metric, Scored


@dataclass(frozen=True)
class Entry:
    """All test predictions of one choice, or of one trivial baseline, in a context.

    Attributes:
        name: What people read.
        is_trivial: Whether it has seen no image.
        splits: The hash of the splits that it was tested on.
        scored: Every test row once a seed, those of a fold and seed together.
        seeds: How many seeds there are.
        results: What its fits found; none for a trivial baseline.
    """

    name: str
    is_trivial: bool
    splits: str
    scored: Scored
    seeds: int
    results: tuple[dict[str, Any], ...] = ()

    def by_fold(self, metric: Metric) -> FloatArray:
        """A metric of each fold and seed, of shape (folds, seeds)."""
        scored = self.scored
        parts = [np.flatnonzero(scored.fold == part) for part in np.unique(scored.fold)]
        values = [metric.function(scored.take(rows)) for rows in parts]
        return np.array(values).reshape(-1, self.seeds)


@dataclass(frozen=True)
class Incomplete:
    """A choice that can't be compared, for want of fits.

    Attributes:
        name: The choice.
        done: Fits whose test rows are predicted.
        wanted: Fits that a score needs.
        reason: Why the first missing one is missing.
    """

    name: str
    done: int
    wanted: int
    reason: str


def demand_same_splits(entries: Sequence[Entry]) -> None:
    """Refuse to compare scores of different splits.

    Raises:
        InputError: With the names of those that differ from the first.
    """
    other = [entry.name for entry in entries if entry.splits != entries[0].splits]
    if other:
        msg = (
            f"{listing(other)} were scored on other splits than {entries[0].name}: the test rows,"
            " or the rows that were learnt from, are not the same, and a difference would not be"
            " one of the methods. Score all on the same splits file."
        )
        raise InputError(msg)


def read_entry(
    folder: StudyFolder, plan: StudyPlan, cells: Sequence[Cell], split: Split
) -> Entry | Incomplete:
    """A choice's predictions in a context, from files."""
    choice = cells[0].subject.choice
    found: list[tuple[dict[str, Any], FloatArray]] = []
    missing: list[str] = []
    wanted = len(cells) * len(plan.study.seeds)
    for cell in cells:
        state = read_cell(folder, plan, cell)
        fits = final_fits(plan, state)
        if not fits:
            missing.append(_why_no_choice(folder, [fit.id for fit in state.search]))
        for fit in fits:
            result = folder.result(fit.id)
            if result is None:
                failure = folder.failure(fit.id)
                missing.append(failure["reason"] if failure else "not done yet")
                continue
            predicted = read_json(folder.test_file(fit.id))["predicted"]
            found.append((result, np.array(predicted, dtype=np.float64)))
    if missing:
        return Incomplete(choice.name, len(found), wanted, missing[0])
    return _entry(choice, split, found, len(plan.study.seeds))


def _why_no_choice(folder: StudyFolder, search: Sequence[str]) -> str:
    reasons = [failure["reason"] for fit in search if (failure := folder.failure(fit))]
    done = sum(folder.result(fit) is not None for fit in search)
    if reasons and done + len(reasons) == len(search):
        return f"no setting of its search ended well: {reasons[0]}"
    return "its search is not done yet"


def _entry(
    choice: Choice, split: Split, found: list[tuple[dict[str, Any], FloatArray]], seeds: int
) -> Entry:
    task, parts = split.task, []
    subjects = subject_numbers(split)
    for number, (result, predicted) in enumerate(found):
        rows = split.folds[result["fold"] - 1].test
        if len(rows) != len(predicted):
            msg = f"The fit {result['id']} predicts {len(predicted)} rows of {len(rows)}."
            raise BraintuneError(msg)
        threshold = np.nan if result["threshold"] is None else result["threshold"]
        decided = task.decide(predicted, threshold)
        parts.append((rows, predicted, decided, np.full(len(rows), number)))
    rows, predicted, decided, fold = (np.concatenate(column) for column in zip(*parts, strict=True))
    scored = Scored(split.truth[rows], predicted, decided, fold, subjects[rows])
    hashes = {result["splits"] for result, _ in found}
    splits = hashes.pop() if len(hashes) == 1 else ", ".join(sorted(hashes))
    return Entry(choice.name, False, splits, scored, seeds, tuple(result for result, _ in found))


def trivial_entries(split: Split) -> list[Entry]:
    """What is predicted without images, on the same splits."""
    subjects = subject_numbers(split)
    folds: Sequence[Fold] = split.folds
    rows = np.concatenate([fold.test for fold in folds])
    number = np.concatenate([np.full(len(fold.test), i) for i, fold in enumerate(folds)])
    found = []
    for baseline in trivial_baselines(split.cohort, split.task):
        predicted = predict_baseline(baseline, split.cohort, split.task, split.truth, folds)[rows]
        decided = split.task.decide(predicted, 0.5)
        scored = Scored(split.truth[rows], predicted, decided, number, subjects[rows])
        found.append(Entry(baseline.label, True, split.hash, scored, 1))
    return found


def subject_numbers(split: Split) -> Any:
    """A number for the subject of each row; those who are tested come first."""
    tested = np.unique(np.concatenate([fold.test for fold in split.folds]))
    ids = split.cohort.table["participant_id"].to_numpy()
    order = list(dict.fromkeys([*ids[tested], *ids]))
    number = {subject: i for i, subject in enumerate(order)}
    return np.array([number[subject] for subject in ids], dtype=np.int64)
