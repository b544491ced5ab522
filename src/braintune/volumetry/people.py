"""What a cohort's tables know of the people whose scans were measured."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from braintune.cohort.bids import add_people
from braintune.cohort.tables import read_table
from braintune.errors import InputError, listing

_KEYS = ("participant_id", "session_id")
_NEVER_JOINED = ("scan_id", "path")


@dataclass(frozen=True)
class Joined:
    """A table with what is known of its people.

    Attributes:
        table: The rows that there were, with more columns.
        added: Names of the new columns.
        nameless: Participants of the rows that the cohort does not know.
        without_rows: Participants of the cohort that no row is of.
    """

    table: pd.DataFrame
    added: tuple[str, ...]
    nameless: tuple[str, ...]
    without_rows: tuple[str, ...]


def join_people(table: pd.DataFrame, cohort: Path) -> Joined:
    """Add a cohort's columns to a table by participant (and session, where both have one).

    Args:
        table: With participant_id and session_id.
        cohort: A BIDS dataset with participants.tsv (and sessions.tsv), or a table with
            participant_id and, for rows that change between sessions, session_id.

    Raises:
        InputError: If the cohort is no such thing, has two rows for one of the table's, or knows
            none of the participants.
    """
    if cohort.is_dir():
        if not (cohort / "participants.tsv").is_file():
            raise InputError(f"{cohort} has no participants.tsv. Name the table itself instead.")
        ids = set(read_table(cohort / "participants.tsv")["participant_id"].dropna())
        known = {name if name.startswith("sub-") else f"sub-{name}" for name in ids}
        _demand_a_match(table, known, cohort)
        joined = add_people(cohort, _without_columns_of(table, cohort))
    else:
        people = _read_people(cohort)
        known = set(people["participant_id"].dropna())
        _demand_a_match(table, known, cohort)
        joined = _merged(table, people, cohort)
    there = set(table["participant_id"])
    return Joined(
        table=joined,
        added=tuple(name for name in joined.columns if name not in table.columns),
        nameless=tuple(sorted(there - known)),
        without_rows=tuple(sorted(known - there)),
    )


def _read_people(path: Path) -> pd.DataFrame:
    people = read_table(path)
    if "participant_id" not in people.columns:
        msg = f"{path} has no column 'participant_id'. Columns: {listing(people.columns)}."
        raise InputError(msg)
    return people.drop(columns=[name for name in _NEVER_JOINED if name in people])


def _without_columns_of(table: pd.DataFrame, cohort: Path) -> pd.DataFrame:
    """The table, if the cohort has no column of the same name, which would be a silent choice."""
    columns = set(read_table(cohort / "participants.tsv").columns)
    _refuse_shared(table, columns, cohort)
    return table


def _refuse_shared(table: pd.DataFrame, columns: set[str], cohort: Path) -> None:
    shared = sorted((columns - {*_KEYS, *_NEVER_JOINED}) & set(table.columns))
    if shared:
        msg = (
            f"Both tables have the columns {listing(shared)}. Rename or remove them in {cohort},"
            " so that it is clear which is meant."
        )
        raise InputError(msg)


def _merged(table: pd.DataFrame, people: pd.DataFrame, cohort: Path) -> pd.DataFrame:
    _refuse_shared(table, set(people.columns), cohort)
    keys = [key for key in _KEYS if key in people.columns]
    # A column of nothing but missing sessions tells no sessions apart.
    if "session_id" in keys and people["session_id"].isna().all():
        people, keys = people.drop(columns=["session_id"]), ["participant_id"]
    repeated = people.loc[people.duplicated(keys), "participant_id"]
    if len(repeated):
        msg = f"{cohort} has several rows for {listing(repeated.unique())}. Keep one of each."
        if "session_id" not in keys:
            msg += " Or tell them apart by a column 'session_id'."
        raise InputError(msg)
    return table.merge(people, on=keys, how="left")


def _demand_a_match(table: pd.DataFrame, known: set[str], cohort: Path) -> None:
    there = set(table["participant_id"])
    if there & known:
        return
    msg = (
        f"No participant of {cohort} has a volume: it has {listing(sorted(known), 3)}; the volumes"
        f" are of {listing(sorted(there), 3)}. Write the ids alike."
    )
    raise InputError(msg)
