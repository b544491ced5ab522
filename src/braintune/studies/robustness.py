"""How a run's score falls as scans are made worse, one way after another, by rising amounts."""

from typing import Any

import numpy as np
import torch

from braintune.cohort.cohort import Cohort
from braintune.evaluation.intervals import bootstrap_rows, difference_interval, metric_intervals
from braintune.fitting.model import Model
from braintune.fitting.predict import Ensemble, chunks, prepared_scans
from braintune.imaging.preparation import PreparedScan
from braintune.synthesis.corruptions import CORRUPTIONS, Corruption, corrupt
from braintune.tasks.task import FloatArray, Scored, Task

Level = tuple[str, float]


def robustness(
    model: Model, cohort: Cohort, scored: Scored, workers: int | None = None
) -> dict[str, Any]:
    """Score a run on scans that are made worse.

    Args:
        model: The run's networks.
        cohort: Scans that can be used.
        scored: The same scans as they are, in the cohort's order.
        workers: Processes that prepare scans.

    Returns:
        For each corruption its amounts, with the headline, its interval, and how much less it is
        than on the scans as they are (paired).
    """
    task = model.members[0].task
    threshold = float(np.mean([member.threshold for member in model.members]))
    predicted = _predict_levels(model, cohort, workers)
    headline = next(iter(task.metrics.values()))
    rows = bootstrap_rows(scored)
    document: dict[str, Any] = {"metric": headline.name, "label": headline.label, "kinds": {}}
    for corruption in CORRUPTIONS:
        levels = []
        for amount in corruption.amounts:
            worse = _rescored(scored, predicted[corruption.name, amount], task, threshold)
            found = metric_intervals(worse, [headline], rows)[headline.name]
            change = difference_interval(worse, scored, headline, rows)
            levels.append({"amount": amount, **vars(found), "change": vars(change)})
        document["kinds"][corruption.name] = {
            "label": corruption.label,
            "unit": corruption.unit,
            "levels": levels,
        }
    return document


def _rescored(scored: Scored, predicted: FloatArray, task: Task, threshold: float) -> Scored:
    decided = task.decide(predicted, threshold)
    return Scored(scored.truth, predicted, decided, scored.fold, scored.subject)


def _predict_levels(model: Model, cohort: Cohort, workers: int | None) -> dict[Level, FloatArray]:
    """Predictions of every scan at every amount, in the cohort's order."""
    task, recipe = model.members[0].task, model.recipe
    ensemble = Ensemble(model)
    row = {scan_id: number for number, scan_id in enumerate(cohort.scan_ids)}
    shape = (len(cohort), len(task.columns()))
    found = {
        (corruption.name, amount): np.full(shape, np.nan)
        for corruption in CORRUPTIONS
        for amount in corruption.amounts
    }
    prepared = prepared_scans(cohort, recipe.prepare, workers)
    usable = ((scan_id, scan) for scan_id, scan in prepared if isinstance(scan, PreparedScan))
    for batch in chunks(usable, recipe.train.batch_size):
        rows = [row[scan_id] for scan_id, _ in batch]
        for corruption in CORRUPTIONS:
            for amount in corruption.amounts:
                worse = _worse(model, [scan for _, scan in batch], corruption, amount)
                mean, _ = ensemble.predict(worse)
                found[corruption.name, amount][rows] = mean.double().numpy()
    return found


def _worse(
    model: Model, scans: list[PreparedScan], corruption: Corruption, amount: float
) -> torch.Tensor:
    """A batch of scans made worse; the seed of each comes from its voxels alone."""
    images = [
        corrupt(scan.image, corruption, amount, model.recipe.prepare, int(scan.voxels[:8], 16))
        for scan in scans
    ]
    return torch.from_numpy(np.stack(images))
