"""Conditions: columns of a cohort, each scaled to [0, 1] by what the training rows hold."""

from collections.abc import Mapping, Sequence
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import model_validator

from braintune.errors import InputError, listing, nearest
from braintune.recipe import Section

Values = npt.NDArray[np.float32]


class Condition(Section):
    """One condition and how it is scaled.

    Attributes:
        name: What commands call it.
        column: The cohort's column.
        kind: ``number``, ``two`` for one of two words, or ``unknown`` where nobody told what the
            values in [0, 1] stand for.
        low: The number that is 0.
        high: The number that is 1.
        words: The words that are 0 and 1.
    """

    name: str
    column: str
    kind: Literal["number", "two", "unknown"]
    low: float = 0.0
    high: float = 1.0
    words: tuple[str, str] | None = None

    @model_validator(mode="after")
    def _can_be_inverted(self) -> Self:
        if self.kind == "number" and not (
            np.isfinite([self.low, self.high]).all() and self.high > self.low
        ):
            msg = f"the condition {self.name} must rise from low to high"
            raise ValueError(msg)
        if (self.kind == "two") != (self.words is not None):
            msg = f"the condition {self.name} must have words exactly if it is one of two"
            raise ValueError(msg)
        return self

    @classmethod
    def learn(cls, name: str, column: str, values: pd.Series) -> Self:
        """Learn the scaling from the training rows.

        Args:
            name: What commands will call it.
            column: The column.
            values: Its text on training rows, without missing ones.

        Raises:
            InputError: If the values are no numbers and not two words, or all the same.

        Example:
            >>> age = Condition.learn("age", "age", pd.Series(["20", "60", "40"]))
            >>> age.low, age.high
            (20.0, 60.0)
        """
        numbers = pd.to_numeric(values, errors="coerce").astype("float64")
        if numbers.notna().all() and np.isfinite(numbers).all():
            low, high = float(numbers.min()), float(numbers.max())
            if low == high:
                msg = f"{column} is {low:g} in every training row, which conditions nothing."
                raise InputError(f"{msg} Leave it out of 'conditions:'.")
            return cls(name=name, column=column, kind="number", low=low, high=high)
        words = sorted({str(value) for value in values})
        if len(words) != 2:
            msg = (
                f"The condition {name} needs numbers or two words, but {column} holds"
                f" {listing(words, 6)}. Give the column numbers, or choose another."
            )
            raise InputError(msg)
        return cls(name=name, column=column, kind="two", words=(words[0], words[1]))

    def scaled(self, values: pd.Series) -> Values:
        """Values of the column in [0, 1]; beyond the training rows' range they are clipped.

        Raises:
            InputError: If a value is no number, or none of the two words.
        """
        if self.words is not None:
            unknown = sorted({str(v) for v in values} - set(self.words))
            if unknown:
                msg = f"{self.column} must be {' or '.join(self.words)}, not {listing(unknown)}."
                raise InputError(msg)
            return np.asarray(values.astype(str) == self.words[1], dtype=np.float32)
        numbers = pd.to_numeric(values, errors="coerce").to_numpy("float64")
        if not np.isfinite(numbers).all():
            raise InputError(f"{self.column} must hold numbers, as on the training rows.")
        return np.clip((numbers - self.low) / (self.high - self.low), 0, 1).astype(np.float32)

    def natural(self, unit: float) -> str | None:
        """What a value in [0, 1] stands for, as text of the column; None where nobody knows.

        Example:
            >>> Condition(name="age", column="age", kind="number", low=20, high=60).natural(0.25)
            '30'
        """
        if self.words is not None:
            return self.words[round(unit)]
        if self.kind == "unknown":
            return None
        return f"{self.low + unit * (self.high - self.low):.6g}"


def demand_in_bounds(given: Mapping[str, float], conditions: Sequence[Condition]) -> None:
    """Make sure that conditions that a user asks for exist and lie in [0, 1].

    Raises:
        InputError: If not; a value in natural units is told what it would be.
    """
    known = {condition.name: condition for condition in conditions}
    for name, value in given.items():
        if name not in known:
            msg = f"The model has no condition {name!r}.{nearest(name, known)}"
            raise InputError(f"{msg} It has: {listing(known)}.")
        condition = known[name]
        if 0 <= value <= 1:
            continue
        msg = f"The condition {name} must be in [0, 1], not {value:g}."
        if condition.kind == "number":
            msg += f" 0 stands for {condition.low:g} and 1 for {condition.high:g}"
            if condition.low <= value <= condition.high:
                unit = (value - condition.low) / (condition.high - condition.low)
                msg += f", so {value:g} is {unit:.3f}"
            msg += "."
        raise InputError(msg)
