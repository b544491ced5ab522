"""The scans that a model is trained on, with their conditions, and those that are held out."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from braintune.cohort.cohort import Cohort
from braintune.cohort.tables import read_table
from braintune.errors import InputError, listing, nearest
from braintune.files import digest
from braintune.imaging.loader import ScanLoader
from braintune.imaging.prepare import equal_scans, fill_store
from braintune.imaging.store import PreparedStore
from braintune.imaging.stores import store_for
from braintune.synthesis.diffusion.conditions import Condition, Values
from braintune.synthesis.diffusion.recipe import DiffusionRecipe

_FEWEST_TRAINED = 2


@dataclass(frozen=True)
class TrainingData:
    """Prepared scans and their conditions; the rows of all attributes are the same.

    Attributes:
        store: The prepared scans.
        table: ``scan_id``, ``participant_id`` and ``voxels`` of every scan.
        conditions: How each condition is scaled.
        values: Conditions in [0, 1], of shape (scans, conditions).
        trained: Rows that are trained on.
        held_out: Rows of other subjects.
        excluded: What was left out, with reasons.
    """

    store: PreparedStore
    table: pd.DataFrame
    conditions: tuple[Condition, ...]
    values: Values
    trained: npt.NDArray[np.intp]
    held_out: npt.NDArray[np.intp]
    excluded: dict[str, str]

    @cached_property
    def scan_ids(self) -> list[str]:
        """Ids by row."""
        return list(self.table["scan_id"])

    @property
    def fingerprint(self) -> str:
        """A hash of all that training depends on."""
        rows = [self.table["scan_id"].tolist(), self.table["voxels"].tolist()]
        return digest([rows, self.values.tolist(), self.trained.tolist()])

    def loader(self) -> ScanLoader:
        """Batches of scans by row."""
        return ScanLoader(self.store, self.scan_ids)

    def images(self, rows: Sequence[int]) -> torch.Tensor:
        """Some scans, of shape (rows, 1, x, y, z), float32."""
        arrays = [np.array(self.store.read(self.scan_ids[row]), dtype=np.float32) for row in rows]
        return torch.from_numpy(np.stack(arrays))


def with_columns(cohort: Cohort, path: Path) -> Cohort:
    """A cohort with the columns of another table, such as a simulation's ``truth.tsv``.

    Args:
        cohort: The cohort; columns that it has already stay as they are.
        path: A TSV or CSV with ``participant_id``, and ``session_id`` where sessions differ.

    Raises:
        InputError: If the table has no such key, or several rows for a scan.
    """
    table = read_table(path)
    keys = [k for k in ("participant_id", "session_id") if k in table.columns]
    if "participant_id" not in keys:
        raise InputError(f"{path} has no column 'participant_id', by which its rows are matched.")
    repeated = table.loc[table.duplicated(keys), "participant_id"]
    if len(repeated):
        raise InputError(f"{path} has several rows for {listing(repeated.unique())}.")
    new = [name for name in table.columns if name not in cohort.table.columns]
    joined = cohort.table.merge(table[[*keys, *new]], on=keys, how="left")
    return Cohort(cohort.source, joined, cohort.exclusions)


def training_data(
    cohort: Cohort, recipe: DiffusionRecipe, store: Path | None = None, workers: int | None = None
) -> TrainingData:
    """Prepare a cohort's scans and scale its conditions by the training rows.

    Scans without one of the conditions are left out, with the reason.

    Args:
        cohort: Whose columns the conditions are; ``brain_ml`` is measured where it is missing.
        recipe: The model.
        store: Folder of the prepared store, by default one in the cache.
        workers: Processes that prepare, by default one a core.

    Raises:
        InputError: If a column is missing or holds nothing to condition on, or too few scans are
            left.
    """
    columns = [name for name in recipe.conditions.values() if name != "brain_ml"]
    for name in recipe.conditions.values():
        if name != "brain_ml" and name not in cohort.table.columns:
            raise InputError(_without_column(cohort, name))
    complete = cohort.table[columns].notna().all(axis=1)
    cohort = cohort.keep(complete, "without a value of every condition")
    own_volumes = cohort.table.get("brain_ml")
    place = store or store_for(cohort, recipe.prepare)
    prepared = fill_store(cohort, place, recipe.prepare, workers=workers)
    if groups := equal_scans(prepared.cohort):
        pairs = "; ".join(listing(group) for group in groups[:5])
        raise InputError(f"Different subjects have equal scans: {pairs}. Leave one of each out.")
    table = prepared.cohort.table
    if own_volumes is not None and own_volumes.notna().all():
        table = table.assign(brain_ml=own_volumes.to_numpy())
    trained, held_out = _deal(table["participant_id"], recipe)
    if len(trained) < _FEWEST_TRAINED:
        msg = f"{cohort.source} leaves {len(trained)} scans to train on; at least 2 are needed."
        raise InputError(msg)
    conditions = tuple(
        Condition.learn(name, column, table[column].iloc[trained])
        for name, column in recipe.conditions.items()
    )
    values = np.stack([c.scaled(table[c.column]) for c in conditions], axis=1)
    return TrainingData(
        store=prepared.store,
        table=table[["scan_id", "participant_id", "voxels"]].reset_index(drop=True),
        conditions=conditions,
        values=values,
        trained=trained,
        held_out=held_out,
        excluded={item.id: item.reason for item in prepared.cohort.exclusions},
    )


def _deal(
    subjects: pd.Series, recipe: DiffusionRecipe
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Rows to train on and rows to hold out, by subject."""
    names = np.array(sorted(subjects.unique()))
    order = np.random.default_rng([recipe.seed, 41]).permutation(len(names))
    out = set(names[order[: round(recipe.held_out * len(names))]])
    is_out = subjects.isin(out).to_numpy(bool)
    return np.flatnonzero(~is_out), np.flatnonzero(is_out)


def _without_column(cohort: Cohort, name: str) -> str:
    there = cohort.covariates
    return (
        f"{cohort.source} has no column {name!r} to condition on.{nearest(name, there)} Add it by"
        " --table, or name other columns with --set 'conditions={age: age}'. Columns:"
        f" {listing(there, limit=40) or 'none'}."
    )
