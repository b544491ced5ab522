"""Who trains, who validates and who tests: the protocol of a recipe made into folds.

A subject (or a coarser group, such as a family) is never on two sides of a fold. Folds are dealt
like cards: groups are sorted by what is stratified, shuffled within, and go to the folds in turn,
so that folds are as alike as they can be, however rare a stratum is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from braintune.cohort.cohort import Cohort
from braintune.cohort.labels import looks_numeric, numbers
from braintune.errors import BraintuneError, InputError, listing
from braintune.recipe import CrossValidation, HoldOut, LeaveOneSiteOut, Protocol
from braintune.tasks.task import FloatArray, Task

Rows = npt.NDArray[np.intp]
Strata = npt.NDArray[np.int64]
PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Fold:
    """The rows of a cohort's table on each side of a fold.

    Attributes:
        name: What people read, such as ``"1"`` or the site that is tested.
        train: Rows that the network learns from.
        validation: Rows that stopping, thresholds and bias adjustment may see.
        test: Rows that nothing may see but the final score.
    """

    name: str
    train: Rows
    validation: Rows
    test: Rows

    def parts(self) -> dict[str, Rows]:
        """The three sides by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}


def make_folds(
    cohort: Cohort, task: Task, truth: FloatArray, protocol: Protocol, validation: float, seed: int
) -> list[Fold]:
    """Split a cohort by a protocol, balanced over a target of one value a scan.

    Args:
        cohort: One row a scan.
        task: For the strata of the target that folds are balanced over.
        truth: The encoded target of each row.
        protocol: How to split.
        validation: The share of the training subjects that validates.
        seed: The same seed gives the same folds.

    Raises:
        InputError: If a column is missing, there are too few subjects, or a subject would be on
            two sides.
    """
    folds = split_cohort(cohort, lambda rows: task.strata(truth[rows]), protocol, validation, seed)
    for fold in folds:
        _demand_all_classes(fold, task, truth)
    return folds


def split_cohort(
    cohort: Cohort,
    strata_of: Callable[[Rows], npt.NDArray[np.int64]],
    protocol: Protocol,
    validation: float,
    seed: int,
) -> list[Fold]:
    """Split a cohort by a protocol.

    Test rows are dealt over strata of all rows, validation rows over strata of the others alone,
    so that no target of a test row has a say in how its fold is trained.

    Args:
        cohort: One row a scan.
        strata_of: What folds are balanced over first: the stratum of each of some rows.
        protocol: How to split.
        validation: The share of the training subjects that validates.
        seed: The same seed gives the same folds.

    Raises:
        InputError: If a column is missing, there are too few subjects, or a subject would be on
            two sides.
    """
    for name in protocol.stratify:
        cohort.column(name)
    groups = _groups(cohort, protocol.group)

    def strata(rows: Rows) -> Strata:
        return _strata(cohort.table.iloc[rows], strata_of(rows), protocol.stratify)

    random = np.random.default_rng([seed, 11])
    everybody = np.arange(len(cohort))
    sides = _SPLITTERS[protocol.kind](cohort, groups, strata(everybody), protocol, random)
    folds: list[Fold] = []
    for name, test in sides:
        rest = np.setdiff1d(everybody, test)
        if protocol.fraction < 1:
            chance = np.random.default_rng([seed, 13, len(folds)])
            rest = rest[nested_share(groups[rest], strata(rest), protocol.fraction, chance)]
        inner = np.random.default_rng([seed, 12, len(folds)])
        hand = deal(groups[rest], strata(rest), validation_hands(validation), inner)
        folds.append(Fold(name, rest[hand > 0], rest[hand == 0], np.sort(test)))
    check_disjoint(folds, groups)
    return folds


def validation_hands(share: float) -> int:
    """Of how many hands that training subjects are dealt to one validates.

    Example:
        >>> validation_hands(0.15)
        7
    """
    return max(2, round(1 / share))


def splits_table(cohort: Cohort, folds: Sequence[Fold]) -> pd.DataFrame:
    """One row a fold and scan, with the side that the scan is on."""
    keys = cohort.table[["scan_id", "participant_id"]]
    tables = [
        keys.iloc[rows].assign(fold=number, name=fold.name, part=part)
        for number, fold in enumerate(folds, start=1)
        for part, rows in fold.parts().items()
    ]
    return pd.concat(tables, ignore_index=True)


def check_disjoint(folds: Sequence[Fold], groups: npt.NDArray[np.int64]) -> None:
    """Make sure, once more and always, that no group is on two sides of a fold.

    Raises:
        BraintuneError: If one is.
    """
    for fold in folds:
        sides = [set(groups[rows]) for rows in fold.parts().values()]
        if sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2]:
            raise BraintuneError(f"Fold {fold.name} has a subject on two sides; nothing was run.")


def deal(
    groups: npt.NDArray[np.int64],
    strata: Strata,
    hands: int,
    random: np.random.Generator,
) -> npt.NDArray[np.int64]:
    """Deal groups to hands so that every stratum is spread as evenly as it can be.

    Args:
        groups: The group of each row.
        strata: What is balanced, of shape (rows, columns), the most important column first; a group
            counts as its first row does.
        hands: How many hands there are.
        random: The source of chance.

    Returns:
        The hand of each row.
    """
    ids, order = _by_strata(groups, strata, random)
    hand = np.empty(len(ids), dtype=np.int64)
    hand[order] = np.arange(len(ids)) % hands
    return hand[np.searchsorted(ids, groups)]


def nested_share(
    groups: npt.NDArray[np.int64], strata: Strata, share: float, random: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """Choose a share of the groups, spread over the strata; larger shares hold the smaller ones.

    Args:
        groups: The group of each row.
        strata: What is balanced, as for `deal`.
        share: Of the groups.
        random: The source of chance; the same gives nested choices.

    Returns:
        Whether each row is chosen.

    Example:
        >>> groups, strata = np.arange(8), np.arange(8)[:, None] // 4
        >>> chosen = [
        ...     nested_share(groups, strata, share, np.random.default_rng(0))
        ...     for share in (0.25, 0.5)
        ... ]
        >>> [strata[few].ravel().tolist() for few in chosen], bool((chosen[0] <= chosen[1]).all())
        ([[0, 1], [0, 0, 1, 1]], True)
    """
    ids, order = _by_strata(groups, strata, random)
    # In the order of their reversed binary digits, places spread evenly, however many are taken.
    digits = max(1, (len(ids) - 1).bit_length())
    places = sorted(range(len(ids)), key=lambda place: f"{place:0{digits}b}"[::-1])
    taken = order[places[: max(1, round(share * len(ids)))]]
    return np.isin(groups, ids[taken])


def _by_strata(
    groups: npt.NDArray[np.int64], strata: Strata, random: np.random.Generator
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.intp]]:
    """All groups, and their order by stratum.

    Values come in a random order, so that the first is not always the same, and so do groups of the
    same values.
    """
    ids, first = np.unique(groups, return_index=True)
    keys = [random.permutation(len(ids))]
    for column in strata[first].T[::-1]:
        _, rank = np.unique(column, return_inverse=True)
        keys.append(random.permutation(rank.max() + 1)[rank])
    return ids, np.lexsort(keys)


def _groups(cohort: Cohort, column: str) -> npt.NDArray[np.int64]:
    """A number for each group; subjects that share a coarser group are never parted."""
    values = _complete(cohort, column, "group")
    subjects = cohort.table["participant_id"]
    torn = values.groupby(subjects).nunique()
    if (torn > 1).any():
        names = listing(torn.index[torn > 1])
        raise InputError(f"The group column {column!r} puts a subject into two groups: {names}.")
    return pd.factorize(values)[0].astype(np.int64)


def _complete(cohort: Cohort, name: str, role: str) -> pd.Series:
    """A column that every scan must have a value in."""
    column = cohort.column(name)
    if column.isna().any():
        missing = listing(cohort.table.loc[column.isna(), "scan_id"])
        raise InputError(f"The {role} column {name!r} is missing for {missing}.")
    return column


def _strata(table: pd.DataFrame, target: npt.NDArray[np.int64], columns: list[str]) -> Strata:
    """The target's strata, then the columns', numbers cut into quarters."""
    keys = [target]
    for name in columns:
        column = table[name].reset_index(drop=True)
        if looks_numeric(column) and len(column.dropna().unique()) > 5:
            column = pd.qcut(numbers(column), 4, duplicates="drop")
        keys.append(pd.factorize(column.astype(str), sort=True)[0].astype(np.int64))
    return np.stack(keys, axis=1)


Sides = list[tuple[str, Rows]]


def _cross_validation(
    cohort: Cohort,
    groups: npt.NDArray[np.int64],
    strata: Strata,
    protocol: CrossValidation,
    random: np.random.Generator,
) -> Sides:
    count = len(np.unique(groups))
    if count < 2 * protocol.folds:
        msg = (
            f"{cohort.source} has {count} subjects to learn from, too few for {protocol.folds}"
            f" folds: each needs two at least. Set 'protocol: {{folds: {max(2, count // 2)}}}' or"
            " add subjects."
        )
        raise InputError(msg)
    hand = deal(groups, strata, protocol.folds, random)
    return [(str(number + 1), np.flatnonzero(hand == number)) for number in range(protocol.folds)]


def _hold_out(
    cohort: Cohort,
    groups: npt.NDArray[np.int64],
    strata: Strata,
    protocol: HoldOut,
    random: np.random.Generator,
) -> Sides:
    del strata, random
    column = _complete(cohort, protocol.column, "hold-out")
    absent = [value for value in protocol.test if value not in set(column)]
    if absent:
        there = listing(sorted(column.unique()))
        msg = (
            f"No scan has {protocol.column} {absent[0]!r}; there are: {there}. Say which are"
            " tested with 'protocol: {test: [...]}'."
        )
        raise InputError(msg)
    tested = column.isin(protocol.test).to_numpy()
    _refuse_torn(cohort, groups, tested, protocol.column)
    if tested.all():
        raise InputError(
            f"All scans have {protocol.column} {protocol.test}: none is left to train."
        )
    return [(", ".join(protocol.test), np.flatnonzero(tested))]


def _leave_one_site_out(
    cohort: Cohort,
    groups: npt.NDArray[np.int64],
    strata: Strata,
    protocol: LeaveOneSiteOut,
    random: np.random.Generator,
) -> Sides:
    del strata, random
    column = _complete(cohort, protocol.site, "site")
    sites = sorted(column.unique())
    if len(sites) < 2:
        raise InputError(f"There is one {protocol.site} only, {sites[0]}: none is left to train.")
    sides = []
    for site in sites:
        tested = (column == site).to_numpy()
        _refuse_torn(cohort, groups, tested, protocol.site)
        sides.append((str(site), np.flatnonzero(tested)))
    return sides


_SPLITTERS: dict[str, Callable[..., Sides]] = {
    "cross-validation": _cross_validation,
    "hold-out": _hold_out,
    "leave-one-site-out": _leave_one_site_out,
}


def _refuse_torn(
    cohort: Cohort, groups: npt.NDArray[np.int64], tested: npt.NDArray[np.bool_], column: str
) -> None:
    both = np.intersect1d(groups[tested], groups[~tested])
    if len(both):
        names = cohort.table.loc[np.isin(groups, both), "participant_id"].unique()
        msg = (
            f"The column {column!r} puts a subject on two sides of a split: {listing(names)}."
            f" Give all sessions of a subject the same {column}, or --exclude some."
        )
        raise InputError(msg)


def _demand_all_classes(fold: Fold, task: Task, truth: FloatArray) -> None:
    """Refuse to train without a class that is there to be told apart."""
    if task.n_outputs > 1 and set(truth) != set(truth[fold.train]):
        msg = (
            f"Fold {fold.name} would train without one of the classes, for want of subjects."
            " Use fewer folds, or leave that class out with 'task: {labels: [...]}'."
        )
        raise InputError(msg)
