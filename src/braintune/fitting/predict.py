"""A finished run on scans that it has never seen."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch

from braintune.cohort.cohort import Cohort
from braintune.cohort.description import write_description
from braintune.cohort.tables import write_table_text
from braintune.errors import InputError
from braintune.files import make_folder, refuse_occupied, write_json, write_text
from braintune.fitting.inference import outputs_of
from braintune.fitting.model import Model, ensemble_columns, load_member, open_model
from braintune.fitting.precision import Precision, choose_precision, make_fabric
from braintune.imaging.discover import discover_scans
from braintune.imaging.nifti import ScanError
from braintune.imaging.preparation import PreparedScan, prepare_scan
from braintune.parallel import check_workers, map_parallel
from braintune.recipe import PrepareRecipe, ScansRecipe

SEEN_WARNING = "the run was fitted with this scan: no evidence of how good it is"
Item = TypeVar("Item")


@dataclass(frozen=True)
class Prediction:
    """What predicting gave.

    Attributes:
        table: One row a scan: what was predicted, its spread over folds, warnings; scans that
            could not be used have their reason instead.
        failed: How many scans could not be used.
    """

    table: pd.DataFrame
    failed: int


def predict(
    run: Path,
    sources: Sequence[Path],
    out: Path,
    *,
    scans: ScansRecipe | None = None,
    workers: int | None = None,
) -> Prediction:
    """Apply a run to new scans: its own preparation, the average of its folds.

    Args:
        run: A finished run, or a copy of its model folder.
        sources: Image files, folders, BIDS datasets or tables.
        out: Where to write a BIDS derivative, new or empty.
        scans: Which files of a BIDS dataset to take; by default those that the run was fitted on.
        workers: Processes that prepare scans, by default one a core.

    Raises:
        InputError: If there is no finished run, no scan, or no scan that can be used; nothing is
            written then.
    """
    check_workers(workers)
    model = open_model(run)
    refuse_occupied(out, "the predictions")
    cohort = discover_scans(sources, scans or model.recipe.scans)
    table = predict_cohort(model, cohort, workers)
    failed = int(table["problem"].notna().sum())
    if failed == len(table):
        raise InputError(f"No scan could be used. {table['problem'].iloc[0]}")
    if not failed:
        table = table.drop(columns=["problem"])
    _write(out, model, table)
    return Prediction(table, failed)


def predict_cohort(model: Model, cohort: Cohort, workers: int | None = None) -> pd.DataFrame:
    """Apply a model to the scans of a cohort.

    Returns:
        One row a scan, in the cohort's order: what was predicted and its spread over folds, as
        text; the column ``warning`` says how a scan is unlike those of the fit, and ``problem`` why
        it could not be used.
    """
    ensemble = Ensemble(model)
    rows = []
    prepared = prepared_scans(cohort, model.recipe.prepare, workers)
    for batch in chunks(prepared, model.recipe.train.batch_size):
        rows += ensemble.rows(batch)
    return _in_order(cohort, rows)


class Ensemble:
    """A model's networks, ready to compute."""

    def __init__(self, model: Model) -> None:
        self._model = model
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._precision: Precision = choose_precision(model.recipe.train.precision, device)
        fabric = make_fabric(self._precision, device.type)
        self._device = fabric.device
        self._networks = []
        for member in model.members:
            network = load_member(model, member)
            self._precision.arrange_kernels(network)
            self._networks.append(fabric.setup_module(network))

    @torch.no_grad()
    def predict(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and spread over the networks of what a batch of prepared images is predicted.

        Args:
            images: Of shape (batch, channels, x, y, z).

        Returns:
            Two tensors of shape (batch, columns), on the processor.
        """
        images = images.to(self._device).float()
        flip = self._model.recipe.train.flip_average
        values = [
            member.task.predict(outputs_of(network, images, self._precision, flip)).cpu()
            for network, member in zip(self._networks, self._model.members, strict=True)
        ]
        return ensemble_columns(values)

    def rows(self, batch: list[tuple[str, PreparedScan | str]]) -> list[dict[str, Any]]:
        """One row of the table for each scan of a batch."""
        good = [(scan_id, scan) for scan_id, scan in batch if isinstance(scan, PreparedScan)]
        rows = [
            {"scan_id": scan_id, "problem": scan}
            for scan_id, scan in batch
            if isinstance(scan, str)
        ]
        if not good:
            return rows
        mean, spread = self.predict(torch.from_numpy(np.stack([scan.image for _, scan in good])))
        for index, (scan_id, scan) in enumerate(good):
            rows.append(self._row(scan_id, scan, mean[index], spread[index]))
        return rows

    def _row(
        self, scan_id: str, scan: PreparedScan, mean: torch.Tensor, spread: torch.Tensor
    ) -> dict[str, Any]:
        task = self._model.members[0].task
        row: dict[str, Any] = {"scan_id": scan_id}
        if task.n_outputs > 1:
            threshold = float(np.mean([member.threshold for member in self._model.members]))
            decided = task.decide(mean[None].double().numpy(), threshold)
            row[f"predicted_{task.target}"] = task.describe(decided)[0]
        for name, value, sd in zip(task.columns(), mean, spread, strict=True):
            row[name] = f"{float(value):.6g}"
            row[f"{name}_sd"] = f"{float(sd):.3g}" if not torch.isnan(sd) else None
        warnings = self._model.typicality.objections(scan.image, scan.brain_ml)
        if scan.voxels in self._model.seen:
            warnings.append(SEEN_WARNING)
        row["warning"] = "; ".join(warnings) or None
        row["problem"] = None
        return row


def prepared_scans(
    cohort: Cohort, recipe: PrepareRecipe, workers: int | None
) -> Iterator[tuple[str, PreparedScan | str]]:
    """Each scan's id with the prepared scan, or why it can't be used, in order of completion."""
    owners = cohort.scans_of_files
    work = partial(_prepare_or_reason, recipe)
    for path, result in map_parallel("Predicting", work, list(owners), workers):
        for scan_id in owners[path]:
            yield scan_id, result


def _prepare_or_reason(recipe: PrepareRecipe, path: str) -> PreparedScan | str:
    try:
        return prepare_scan(Path(path), recipe)
    except ScanError as error:
        return str(error)


def chunks(items: Iterator[Item], size: int) -> Iterator[list[Item]]:
    """The items in lists of a size, the last one shorter."""
    while chunk := list(islice(items, size)):
        yield chunk


def _in_order(cohort: Cohort, rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The rows in the cohort's order, with subject and session."""
    keys = cohort.table[["scan_id", "participant_id", "session_id"]]
    return keys.merge(pd.DataFrame(rows), on="scan_id", how="left")


def _write(out: Path, model: Model, table: pd.DataFrame) -> None:
    """A BIDS derivative: there is no standard yet for model predictions, the sidecar explains."""
    task = model.members[0].task
    make_folder(out)
    write_description(out, f"Predictions of {task.target}")
    name = f"desc-{''.join(c for c in task.target if c.isalnum())}_predictions"
    write_json(out / f"{name}.json", _sidecar(model, table))
    write_text(out / f"{name}.tsv", write_table_text(table))
    write_text(out / ".bidsignore", "*_predictions.*\n")


def _sidecar(model: Model, table: pd.DataFrame) -> dict[str, Any]:
    task = model.members[0].task
    count = len(model.members)
    texts = {
        "scan_id": "the file's name",
        "warning": "why the scan is unlike those that the run was fitted on",
        "problem": "why the scan could not be used",
    }
    for name in task.columns():
        texts[name] = f"mean over the networks of {count} folds"
        texts[f"{name}_sd"] = f"standard deviation over the networks of {count} folds"
    texts[f"predicted_{task.target}"] = texts.get(
        f"predicted_{task.target}", "what was decided for at the folds' mean threshold"
    )
    columns = {name: {"Description": texts[name]} for name in table.columns if name in texts}
    return {"Recipe": model.recipe.model_dump(mode="json"), **columns}
