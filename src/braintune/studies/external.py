"""External cohorts of a study: every network predicts people whom no choice has learnt from.

Nothing is fitted on an external cohort. A subject or a scan that is in a cohort that is learnt from
is refused, by id and by image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from braintune.cohort.cohort import Cohort
from braintune.cohort.read import read_cohort
from braintune.cohort.tables import read_table
from braintune.errors import InputError, counted, listing
from braintune.evaluation.splits import Fold
from braintune.files import digest, read_json
from braintune.studies.contexts import Split
from braintune.studies.folder import StudyFolder
from braintune.studies.recipe import StudyRecipe
from braintune.studies.scores import Entry
from braintune.tasks.task import Scored, Task


@dataclass(frozen=True)
class External:
    """A cohort that is predicted only.

    Attributes:
        name: What the study calls it.
        cohort: Its scans.
    """

    name: str
    cohort: Cohort

    @property
    def hash(self) -> str:
        """Of the scans that are predicted, in their order."""
        return digest(self.cohort.scan_ids)


def read_external(study: StudyRecipe) -> list[External]:
    """The study's external cohorts, whatever targets they have.

    Raises:
        InputError: If one can't be read, or has the name of a cohort that is learnt from.
    """
    both = sorted(set(study.external) & set(study.cohorts))
    if both:
        raise InputError(f"{listing(both)} can't be learnt from and external too. Rename one.")
    return [
        External(name, read_cohort(place, study.base.scans))
        for name, place in study.external.items()
    ]


def refuse_shared_subjects(cohorts: dict[str, Cohort], externals: Sequence[External]) -> None:
    """Refuse subjects of an external cohort who are in one that is learnt from.

    By their id, and, where scans are prepared, by their voxels.

    Raises:
        InputError: With all of them.
    """
    for name, cohort in cohorts.items():
        for external in externals:
            ours, theirs = cohort.table, external.cohort.table
            ids = sorted(set(theirs["participant_id"]) & set(ours["participant_id"]))
            if ids:
                msg = (
                    f"{counted(len(ids), 'subject')} of the external cohort {external.name!r} have"
                    f" ids of {name!r}, which is learnt from: {listing(ids)}. If they are the same"
                    " people, they are not external: take them out. If not, give them other ids."
                )
                raise InputError(msg)
            if "voxels" not in ours or "voxels" not in theirs:
                continue
            seen = theirs["voxels"].isin(ours["voxels"])
            if seen.any():
                msg = (
                    f"Scans of the external cohort {external.name!r} are equal to the voxel to"
                    f" scans of {name!r}, which is learnt from:"
                    f" {listing(theirs.loc[seen, 'scan_id'])}. Take them out."
                )
                raise InputError(msg)


def external_split(folder: StudyFolder, name: str, split: Split) -> Split | None:
    """An external cohort as the one fold that tests it; all who were learnt from train.

    Returns:
        None if none of its scans has a target that the study knows.
    """
    table = read_table(folder.cohort_file(name))
    known = _known(table, split.task)
    if not known.any():
        return None
    theirs = table[known]
    learnt = np.unique(np.concatenate([np.r_[f.train, f.validation] for f in split.folds]))
    ours = split.cohort.table.iloc[learnt]
    shared = [column for column in ours.columns if column in theirs.columns]
    # Both cohorts may call a scan by the same name; subjects were told apart before.
    rows = pd.concat(
        [ours[shared].assign(scan_id="learnt: " + ours["scan_id"]), theirs[shared]],
        ignore_index=True,
    )
    numbers = np.arange(len(rows))
    fold = Fold(name, numbers[: len(ours)], numbers[:0], numbers[len(ours) :])
    truth = np.concatenate([split.truth[learnt], split.task.encode(theirs[split.task.target])])
    hash_ = digest([split.hash, table["scan_id"].tolist()])
    return Split(Cohort(Path(name), rows), split.task, truth, [fold], hash_)


def external_entry(folder: StudyFolder, name: str, entry: Entry, split: Split) -> Entry:
    """A choice's predictions of an external cohort, by each of its networks.

    Args:
        folder: The study.
        name: The external cohort.
        entry: The choice, as it was tested within its own cohort.
        split: What `external_split` made.
    """
    (fold,) = split.folds
    known = np.flatnonzero(_known(read_table(folder.cohort_file(name)), split.task))
    predicted, decided = [], []
    for result in entry.results:
        document = read_json(folder.test_file(result["id"]))["external"][name]
        values = np.array(document, dtype=np.float64)[known]
        threshold = np.nan if result["threshold"] is None else result["threshold"]
        predicted.append(values)
        decided.append(split.task.decide(values, threshold))
    networks = len(entry.results)
    rows = np.tile(fold.test, networks)
    subjects = pd.factorize(split.cohort.table["participant_id"].iloc[fold.test])[0]
    scored = Scored(
        truth=split.truth[rows],
        predicted=np.concatenate(predicted),
        decided=np.concatenate(decided),
        fold=np.repeat(np.arange(networks), len(fold.test)),
        subject=np.tile(subjects, networks).astype(np.int64),
    )
    return Entry(entry.name, False, split.hash, scored, networks, entry.results)


def _known(table: pd.DataFrame, task: Task) -> np.ndarray:
    """Which rows have a target that the task knows."""
    if task.target not in table.columns:
        return np.zeros(len(table), dtype=bool)
    return ~np.isnan(task.encode(table[task.target]))
