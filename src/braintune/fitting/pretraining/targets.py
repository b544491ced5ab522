"""Labels of all sources, read and encoded alike, and standardised on the scans that train."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from braintune.cohort.labels import numbers
from braintune.errors import InputError, counted, listing
from braintune.tasks.classification import Classification
from braintune.tasks.pretraining.objective import Objective
from braintune.tasks.task import FloatArray, Task, make_task


def fit_targets(objective: Objective, tables: Mapping[str, pd.DataFrame]) -> dict[str, Task]:
    """A task for each label that an objective learns, fitted on the scans of all sources.

    Args:
        objective: Which labels.
        tables: The labels of each source as text, one row a scan; of generated scans, those of
            some.

    Raises:
        InputError: If a source, or a scan, lacks a label that is not said to be partial, or a label
            can't be learnt.
    """
    fitted = {}
    for column, recipe in objective.targets().items():
        partial = objective.may_lack(column)
        for name, table in tables.items():
            if not partial:
                _demand(column, name, table)
        columns = [table[column] for table in tables.values() if column in table]
        if not columns:
            raise InputError(f"No source has the label {column!r}. {_there(tables)}")
        text = pd.concat(columns, ignore_index=True).rename(column)
        task, truth = make_task(recipe).read(text)
        fitted[column] = task.fit(truth[~np.isnan(truth)])
    return fitted


def encode(task: Task, column: pd.Series) -> FloatArray:
    """Labels as a fitted task means them, NaN where there is none.

    Raises:
        InputError: If a value of a number is none.
    """
    if isinstance(task, Classification):
        assert task.classes is not None
        codes = task.classes.encode(column).astype(np.float64)
        codes[codes < 0] = np.nan
        return codes
    return numbers(column).to_numpy(dtype=np.float64)


def encoded_table(tasks: Mapping[str, Task], table: pd.DataFrame) -> dict[str, FloatArray]:
    """All labels of a table; NaN throughout for a column that it lacks."""
    return {
        name: encode(task, table[name]) if name in table else np.full(len(table), np.nan)
        for name, task in tasks.items()
    }


def _demand(column: str, name: str, table: pd.DataFrame) -> None:
    """Refuse a source without a label, or with scans that lack it."""
    if column not in table:
        known = [c for c in table.columns if c not in {"scan_id", "path", "participant_id"}]
        raise InputError(
            f"The source {name} has no label {column!r}. It has: {listing(known, 60) or 'none'}."
            f" Choose among them, or set 'partial: true' if other sources have it."
        )
    missing = table[table[column].isna()]
    if len(missing):
        raise InputError(
            f"{counted(len(missing), 'scan')} of the source {name} lack the label {column!r}:"
            f" {listing(missing.get('scan_id', missing.index))}. Fill them in, take them out with"
            " 'where:', or set 'partial: true', by which they learn from other labels."
        )


def _there(tables: Mapping[str, pd.DataFrame]) -> str:
    return "; ".join(f"{name} has {listing(table.columns, 40)}" for name, table in tables.items())
