"""Targets and covariates as numbers and classes."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from braintune.errors import InputError, listing, nearest

# Names that studies give to the group without the condition; it is never the positive class.
REFERENCE_NAMES = frozenset(
    {"0", "cn", "control", "controls", "ctrl", "hc", "healthy", "nc", "neg", "negative", "no"}
    | {"nl", "none", "normal", "td", "tdc", "false"}
)


def looks_numeric(column: pd.Series) -> bool:
    """Whether every value that is there is a number."""
    known = column.dropna()
    return len(known) > 0 and bool(pd.to_numeric(known, errors="coerce").notna().all())


def numbers(column: pd.Series) -> pd.Series:
    """A column as floats, missing values as NaN.

    Raises:
        InputError: If a value is no finite number.
    """
    values = pd.to_numeric(column, errors="coerce").astype("float64")
    wrong = column.notna() & ~np.isfinite(values.fillna(np.nan).to_numpy())
    if wrong.any():
        msg = (
            f"The column {column.name!r} must hold numbers, but has"
            f" {listing(repr(value) for value in column[wrong].unique())}."
        )
        raise InputError(msg)
    return values


@dataclass(frozen=True)
class Classes:
    """The classes of a target, in the order of the network's outputs.

    Attributes:
        names: The classes; of two, the second is the positive one.
    """

    names: tuple[str, ...]

    @property
    def positive(self) -> str:
        """The class that sensitivity, ROC curves and the like speak of."""
        return self.names[-1]

    def encode(self, column: pd.Series) -> npt.NDArray[np.int64]:
        """The index of each value's class; a value of another class, or a missing one, is -1."""
        index = {name: number for number, name in enumerate(self.names)}
        return np.array([index.get(str(value), -1) for value in column], dtype=np.int64)


def find_classes(column: pd.Series, wanted: list[str] | None = None) -> Classes:
    """The classes of a target column.

    Args:
        column: The target, as text.
        wanted: The classes to take, in order; by default all, reference groups such as CN or HC
            first, then by name.

    Raises:
        InputError: If a wanted class is not there, or if fewer than two classes are.
    """
    there = sorted({str(value) for value in column.dropna()})
    if wanted:
        absent = [name for name in wanted if name not in there]
        if absent:
            msg = (
                f"No scan has the {column.name} {absent[0]!r}.{nearest(absent[0], there)}"
                f" Values there: {listing(there)}."
            )
            raise InputError(msg)
        there = list(wanted)
    else:
        there.sort(key=lambda name: (name.lower() not in REFERENCE_NAMES, _natural(name)))
    if len(there) < 2:
        count = int(column.notna().sum())
        msg = (
            f"The target {column.name!r} has one class only: {listing(there) or 'none'}"
            f" ({count} scans). Telling classes apart needs two."
        )
        raise InputError(msg)
    if len(there) > 100 and not wanted:
        msg = (
            f"The target {column.name!r} has {len(there)} different values."
            " To predict a number, set 'task: {kind: regression}'."
        )
        raise InputError(msg)
    return Classes(tuple(there))


def _natural(name: str) -> tuple[int, float, str]:
    """Sort numbers by size and before words."""
    try:
        return (0, float(name), name)
    except ValueError:
        return (1, 0.0, name)
