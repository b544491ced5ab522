"""What samples are asked for: each one's conditions, whatever the batch or the order."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from braintune.synthesis.diffusion.conditions import Condition, Values, demand_in_bounds

_ASK = 71
# Standard deviation of what is added to a training row's number, so that its exact combination is
# not asked for again.
_BLUR = 0.05


def asked_for(
    conditions: Sequence[Condition],
    seen: pd.DataFrame | None,
    fixed: Mapping[str, float],
    *,
    count: int,
    seed: int,
) -> Values:
    """Conditions of each sample.

    What is not fixed is drawn: a training row as a whole, so that combinations stay likely, with
    some blur; where no training rows are known, each condition evenly.

    Args:
        conditions: The model's.
        seen: Training rows with a column ``NAME_unit`` for each condition, or None.
        fixed: Conditions that all samples share, in [0, 1].
        count: How many samples.
        seed: Sample i is a function of seed and i alone.

    Returns:
        In [0, 1], of shape (count, conditions).

    Raises:
        InputError: If a fixed one is unknown or not in [0, 1].

    Example:
        >>> age = Condition(name="age", column="age", kind="number", low=20, high=60)
        >>> asked_for([age], None, {"age": 0.5}, count=2, seed=0).tolist()
        [[0.5], [0.5]]
    """
    demand_in_bounds(fixed, conditions)
    rows = [_draw(conditions, seen, np.random.default_rng([seed, _ASK, i])) for i in range(count)]
    values = np.array(rows, dtype=np.float32).reshape(count, len(conditions))
    for number, condition in enumerate(conditions):
        if condition.name in fixed:
            values[:, number] = fixed[condition.name]
    return values


def _draw(
    conditions: Sequence[Condition], seen: pd.DataFrame | None, chance: np.random.Generator
) -> list[float]:
    row = None if seen is None else seen.iloc[int(chance.integers(len(seen)))]
    drawn = []
    for condition in conditions:
        even, normal = float(chance.random()), float(chance.normal())
        if row is None:
            value = float(even > 0.5) if condition.kind == "two" else even
        else:
            value = float(row[f"{condition.name}_unit"])
            if condition.kind == "number":
                value = _reflected(value + _BLUR * normal)
        drawn.append(value)
    return drawn


def _reflected(value: float) -> float:
    """A value beyond 0 or 1, as far on the other side of that bound."""
    value = abs(value)
    return min(1.0, max(0.0, 2 - value if value > 1 else value))
