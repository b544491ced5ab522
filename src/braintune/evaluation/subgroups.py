"""Results of groups of subjects, with intervals; groups too small to score are named."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from braintune.cohort.labels import looks_numeric, numbers
from braintune.errors import InputError
from braintune.evaluation.calibration import calibration_metrics
from braintune.evaluation.intervals import bootstrap_rows, interval, metric_samples
from braintune.tasks.task import IntArray, Metric, Scored, Task

FEWEST_SUBJECTS = 10
# With fewer subjects of a class, resamples lack it too often to score.
FEWEST_OF_A_CLASS = 3
AGE_BANDS = (20.0, 40.0, 60.0, 80.0)


@dataclass(frozen=True)
class Grouping:
    """A way to part scans into groups.

    Attributes:
        name: Its key in metrics.json.
        groups: The group of each scan.
    """

    name: str
    groups: pd.Series


def groupings(table: pd.DataFrame, age_bands: Sequence[float] = AGE_BANDS) -> list[Grouping]:
    """The groups that a table's columns allow: site, sex and age band.

    Args:
        table: One row a scan.
        age_bands: Ages at which one band ends and the next begins.
    """
    found = [
        Grouping(name, table[name].fillna("n/a").astype(str))
        for name in ("site", "sex")
        if name in table.columns
    ]
    if "age" in table.columns and looks_numeric(table["age"]):
        found.append(Grouping("age band", age_band(numbers(table["age"]), age_bands)))
    return found


def check_bands(age_bands: Sequence[float]) -> None:
    """Refuse ages that part nothing.

    Raises:
        InputError: If there are none, or they do not rise.
    """
    if not age_bands or list(age_bands) != sorted(set(age_bands)):
        given = ", ".join(f"{age:g}" for age in age_bands) or "nothing"
        raise InputError(f"Age bands must rise, such as 40,60,80, not {given}.")


def parse_bands(text: str) -> list[float]:
    """Read ages such as ``40,60,80``.

    Raises:
        InputError: If they are no rising numbers.

    Example:
        >>> parse_bands("40, 60")
        [40.0, 60.0]
    """
    try:
        bands = [float(word) for word in text.split(",")]
    except ValueError:
        raise InputError(f"Age bands are ages such as 40,60,80, not {text!r}.") from None
    check_bands(bands)
    return bands


def age_band(ages: pd.Series, edges: Sequence[float]) -> pd.Series:
    """The band of each age.

    Example:
        >>> age_band(pd.Series([19.0, 60.0, 90.0, float("nan")]), [20, 60, 80]).tolist()
        ['under 20', '60 to under 80', '80 and over', 'n/a']
    """
    names = [f"under {edges[0]:g}"]
    names += [f"{a:g} to under {b:g}" for a, b in pairwise(edges)]
    names.append(f"{edges[-1]:g} and over")
    place = np.searchsorted(np.asarray(edges), ages.to_numpy(), side="right")
    bands = [names[i] if known else "n/a" for i, known in zip(place, ages.notna(), strict=True)]
    return pd.Series(bands, index=ages.index)


def subgroup_metrics(task: Task) -> list[Metric]:
    """The headline, what was decided, and the first sign of miscalibration."""
    metrics = task.metrics
    names = [next(iter(metrics)), "sensitivity", "specificity"]
    return [
        *[metrics[name] for name in names if name in metrics],
        calibration_metrics(task)[0],
    ]


def by_group(scored: Scored, grouping: Grouping, task: Task) -> dict[str, Any]:
    """Each group's results, and how far its headline is from everybody else's.

    Returns:
        ``groups``, and ``too_small``: the reason for each that is not scored.
    """
    metrics = subgroup_metrics(task)
    names = grouping.groups.to_numpy()
    document: dict[str, Any] = {"groups": {}, "too_small": {}}
    for name in sorted(set(names), key=_order(grouping)):
        here = names == name
        part = scored.take(np.flatnonzero(here))
        subjects = len(np.unique(part.subject))
        if reason := _too_small(part, subjects, task):
            document["too_small"][str(name)] = {"subjects": subjects, "reason": reason}
            continue
        samples = metric_samples(part, metrics, bootstrap_rows(part))
        document["groups"][str(name)] = {
            "subjects": subjects,
            "scans": len(part),
            "metrics": {
                m.name: {
                    "label": m.label,
                    **vars(interval(m.function(part), samples[m.name])),
                }
                for m in metrics
            },
            "minus_others": _against(part, scored.take(np.flatnonzero(~here)), metrics[0], task),
        }
    return document


def _order(grouping: Grouping) -> Callable[[str], Any]:
    """Age bands from young to old, all else by name."""
    if grouping.name != "age band":
        return str

    def place(name: str) -> tuple[int, float]:
        if name == "n/a":
            return 2, 0.0
        return (0, 0.0) if name.startswith("under ") else (1, float(name.split()[0]))

    return place


def _too_small(part: Scored, subjects: int, task: Task) -> str | None:
    if subjects < FEWEST_SUBJECTS:
        return f"fewer than {FEWEST_SUBJECTS} subjects"
    if task.n_outputs > 1:
        for code in range(task.n_outputs):
            count = len(np.unique(part.subject[part.truth == code]))
            if count < FEWEST_OF_A_CLASS:
                label = task.describe(np.array([float(code)]))[0]
                return f"{count} subjects are {label}; {FEWEST_OF_A_CLASS} are needed"
    return None


def _against(part: Scored, others: Scored, metric: Metric, task: Task) -> dict[str, float] | None:
    """The group's headline minus that of all others, who are other people: drawn independently."""
    if not len(others) or _too_small(others, len(np.unique(others.subject)), task):
        return None
    found = unpaired_difference(part, others, metric)
    return {"value": found[0], "low": found[1], "high": found[2]}


def unpaired_difference(
    first: Scored, second: Scored, metric: Metric
) -> tuple[float, float, float]:
    """A metric of some subjects minus that of others, with its interval.

    Returns:
        Value, low and high.
    """
    samples = [
        metric_samples(part, [metric], bootstrap_rows(part, seed))[metric.name]
        for seed, part in enumerate((first, second))
    ]
    value = metric.function(first) - metric.function(second)
    found = interval(value, samples[0] - samples[1])
    return found.value, found.low, found.high


def within(scored: Scored, groups: IntArray) -> Scored:
    """The same rows, of which ranks and correlations compare those of one group alone."""
    return Scored(scored.truth, scored.predicted, scored.decided, groups, scored.subject)
