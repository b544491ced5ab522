"""The columns that a diagnosis learns from, checked for what must not be learnt from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

import numpy as np
import pandas as pd

from braintune.cohort.labels import looks_numeric, numbers
from braintune.errors import InputError, listing, nearest
from braintune.volumetry.volumes import ENDINGS, ICV

Kind = Literal["number", "name"]
IDENTIFIERS = frozenset({"participant_id", "session_id", "scan_id", "path"})
# From so many rows on, words that are nearly all different name the rows.
_ROWS_TO_JUDGE = 10
_DIFFERENT = 0.9


@dataclass(frozen=True)
class ColumnKinds:
    """Which columns hold numbers and which hold names, as a fit found them.

    Attributes:
        kinds: By column.
    """

    kinds: Mapping[str, Kind]

    @classmethod
    def of(cls, table: pd.DataFrame, columns: Sequence[str]) -> "ColumnKinds":
        """Tell numbers from names: a column is of numbers if every value that is there is one."""
        return cls({c: "number" if looks_numeric(table[c]) else "name" for c in columns})

    def frame(self, table: pd.DataFrame) -> pd.DataFrame:
        """The columns as classifiers take them: floats with NaN, and words with ``n/a``.

        Raises:
            InputError: If a column is missing, or one of numbers holds something else.
        """
        demand_columns(table, list(self.kinds), "The table")
        columns: dict[str, Any] = {}
        for name, kind in self.kinds.items():
            if kind == "number":
                columns[name] = numbers(table[name]).to_numpy(dtype=np.float64)
            else:
                words = table[name].astype("string").fillna("n/a")
                columns[name] = np.array(words.tolist(), dtype=object)
        return pd.DataFrame(columns, index=pd.RangeIndex(len(table)))


def demand_columns(table: pd.DataFrame, columns: Sequence[str], source: str) -> None:
    """Refuse a table that lacks a column.

    Raises:
        InputError: With the nearest column that there is.
    """
    for name in columns:
        if name not in table.columns:
            there = [column for column in table.columns if column not in IDENTIFIERS]
            msg = (
                f"{source} has no column {name!r}.{nearest(name, there)}"
                f" Columns: {listing(there, limit=40)}."
            )
            raise InputError(msg)


def choose_volumes(table: pd.DataFrame, patterns: Sequence[str]) -> list[str]:
    """The volume columns that names or patterns mean; by default all in mm³ that vary.

    Args:
        table: One row a scan.
        patterns: Names, or patterns such as ``hippocampus*_mm3``.

    Raises:
        InputError: If there are none, or a pattern matches none.
    """
    if not patterns:
        found = [name for name in table.columns if _is_volume(name) and not _constant(table[name])]
        if not found:
            msg = "The table has no volumes in mm³ (…_mm3). Name columns to learn from: --features."
            raise InputError(msg)
        return found
    chosen: list[str] = []
    for pattern in patterns:
        matches = [name for name in table.columns if fnmatchcase(name, pattern)]
        if not matches:
            demand_columns(table, [pattern], "The table")
        chosen += [name for name in matches if name not in chosen]
    return chosen


def check_columns(table: pd.DataFrame, columns: Sequence[str], target: str) -> None:
    """Refuse columns that tell nothing, that name rows, or that are the target itself.

    Args:
        table: The rows that have a target.
        columns: What is to be learnt from.
        target: What is to be told.

    Raises:
        InputError: With the column and what is wrong with it.
    """
    for name in columns:
        if name == target:
            raise InputError(f"{name!r} is the target; it can't be among what predicts it.")
        if problem := _problem(table, name, target):
            raise InputError(f"The column {name!r} {problem} Leave it out.")


def _problem(table: pd.DataFrame, name: str, target: str) -> str | None:
    column = table[name]
    if name.endswith(ENDINGS["residual"]):
        return (
            "was fitted on rows that are tested here. Take the column in mm³ with"
            " --normalise residual, which is fitted on training rows."
        )
    if _constant(column):
        there = listing(column.dropna().unique()) or "nothing"
        return f"is constant ({there}): nothing can be learnt from it."
    if name in IDENTIFIERS or _names_rows(column, table["participant_id"]):
        return "is an identifier: it names rows and tells nothing of others."
    if _recodes(column, table[target]):
        return f"equals the target {target!r}, value for value: it gives the answer away."
    return None


def _is_volume(name: str) -> bool:
    ending = ENDINGS["none"]
    return name.endswith(ending) and not name.endswith(ENDINGS["residual"]) and name != ICV


def _constant(column: pd.Series) -> bool:
    return len(column.dropna().unique()) < 2


def _names_rows(column: pd.Series, participants: pd.Series) -> bool:
    """Whether a column of words is different for nearly every participant."""
    known = column.dropna()
    if looks_numeric(column) or len(known) < _ROWS_TO_JUDGE:
        return False
    people = participants[known.index].nunique()
    return bool(known.nunique() >= _DIFFERENT * people)


def _recodes(column: pd.Series, target: pd.Series) -> bool:
    """Whether values and classes stand for each other, one to one."""
    both = pd.DataFrame({"value": column, "label": target}).dropna().drop_duplicates()
    return bool(len(both) > 1 and both["value"].is_unique and both["label"].is_unique)
