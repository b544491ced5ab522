"""The headline among women and men, by age, and at each site: where a model holds and where not."""

from typing import Any

import numpy as np
import pandas as pd

from braintune.cohort.labels import looks_numeric, numbers
from braintune.evaluation.intervals import bootstrap_rows, metric_intervals
from braintune.tasks.task import Metric, Scored

# Below this many subjects a group is named, but has no score.
FEWEST = 10
_BAND_YEARS = 10
_UNKNOWN = "n/a"


def groups_of(table: pd.DataFrame) -> dict[str, pd.Series]:
    """The group of each row by site, by sex and by decade of age, where the columns are there.

    Example:
        >>> table = pd.DataFrame({"age": ["61.5", "70"], "sex": ["F", "F"]})
        >>> {by: groups.tolist() for by, groups in groups_of(table).items()}
        {'sex': ['F', 'F'], 'age': ['60 to 69', '70 to 79']}
    """
    found = {
        name: table[name].astype("string").fillna(_UNKNOWN)
        for name in ("site", "sex")
        if name in table.columns
    }
    if "age" in table.columns and looks_numeric(table["age"]):
        found["age"] = pd.Series(numbers(table["age"]), index=table.index).map(_band)
    return found


def by_subgroup(scored: Scored, metric: Metric, table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """A metric in each group, with intervals that resample the group's subjects.

    Args:
        scored: Predictions beside the truth.
        metric: The metric.
        table: A row for each row of ``scored``, with what groups are made of.

    Returns:
        By column, each group's number of subjects, value, low and high; these are None where there
        are too few subjects, or where the metric is not defined.
    """
    return {
        by: {
            str(group): _entry(scored.take(np.flatnonzero(groups.to_numpy() == group)), metric)
            for group in sorted(groups.unique())
        }
        for by, groups in groups_of(table).items()
    }


def _entry(part: Scored, metric: Metric) -> dict[str, Any]:
    subjects = len(np.unique(part.subject))
    entry: dict[str, Any] = {"subjects": subjects, "value": None, "low": None, "high": None}
    if subjects < FEWEST or np.isnan(metric.function(part)):
        return entry
    interval = metric_intervals(part, [metric], bootstrap_rows(part))[metric.name]
    return {**entry, "value": interval.value, "low": interval.low, "high": interval.high}


def _band(age: float) -> str:
    if np.isnan(age):
        return _UNKNOWN
    first = int(age // _BAND_YEARS) * _BAND_YEARS
    return f"{first} to {first + _BAND_YEARS - 1}"
