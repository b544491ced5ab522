"""What studies of many small fits share: names, places, and results that are computed once."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from braintune.evaluation.baselines import predict_baseline, trivial_baselines
from braintune.evaluation.intervals import Interval, bootstrap_rows, metric_intervals
from braintune.evaluation.splits import Fold
from braintune.files import read_json, write_json
from braintune.fitting.plan import FitPlan
from braintune.tasks.task import Metric, Scored


@dataclass(frozen=True)
class Trial:
    """One fit; its fields tell it from all others of a study."""

    @property
    def key(self) -> str:
        """Its file's name."""
        return "_".join(str(value) for value in asdict(self).values())


@dataclass(frozen=True)
class Place:
    """Where a study keeps what it made.

    Attributes:
        work: Its folder.
        cohort: The real scans.
    """

    work: Path
    cohort: Path

    @property
    def weights(self) -> Path:
        """What was pre-trained."""
        return self.work / "weights"

    def trial(self, trial: Trial) -> Path:
        """What a fit found."""
        return self.work / "trials" / f"{trial.key}.json"

    def folder(self, trial: Trial) -> Path:
        """What a fit needs to go on."""
        return self.work / "trials" / trial.key

    def cell(self, *parts: object) -> Path:
        """What was found for a cell of a table."""
        return self.work / "cells" / f"{'_'.join(map(str, parts))}.json"


def kept(path: Path, compute: Callable[[], Any]) -> Any:
    """What an earlier session found, or what is computed and kept now."""
    if not path.exists():
        write_json(path, compute())
    return read_json(path)


def scored(plan: FitPlan, results: Sequence[dict[str, Any]]) -> Scored:
    """All predictions of a method; each seed of each fold is a fold, each row a subject."""
    rows = np.concatenate([result["test_rows"] for result in results])
    predicted = np.concatenate([result["predicted"] for result in results])
    folds = np.concatenate([np.full(len(r["test_rows"]), i) for i, r in enumerate(results)])
    decided = plan.task.decide(predicted, 0.5)
    return Scored(plan.truth[rows], predicted, decided, folds, rows)


def score_baselines(plan: FitPlan, folds: Sequence[Fold], metric: Metric) -> dict[str, list[float]]:
    """What is predicted without images, by what it is predicted from."""
    found = {}
    for baseline in trivial_baselines(plan.cohort, plan.task):
        predicted = predict_baseline(baseline, plan.cohort, plan.task, plan.truth, folds)
        parts = [{"test_rows": fold.test, "predicted": predicted[fold.test]} for fold in folds]
        of_table = scored(plan, parts)
        interval = metric_intervals(of_table, [metric], bootstrap_rows(of_table))[metric.name]
        found[baseline.label] = rounded(interval)
    return found


def rounded(interval: Interval) -> list[float]:
    """A value and its interval, as the tables show them."""
    return [round(value, 3) for value in (interval.value, interval.low, interval.high)]
