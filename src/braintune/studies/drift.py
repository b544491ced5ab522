"""An external cohort beside the run's own test rows: scores, calibration, operating points.

The run's own values are those of its test rows, each predicted by the network of one fold that has
not seen it. External rows are predicted by the average of all folds' networks, which is a little
better, so that a fall is rather understated.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from braintune.cohort.tables import read_table
from braintune.evaluation.calibration import PERFECT, calibration_curve, calibration_metrics
from braintune.evaluation.intervals import bootstrap_rows, metric_intervals
from braintune.evaluation.operating_points import AT_A_POINT, OperatingPoint, transferred
from braintune.evaluation.subgroups import unpaired_difference, within
from braintune.files import read_json
from braintune.run import RunFolder
from braintune.tasks.task import FloatArray, Metric, Scored, Task

# Metrics that compare scans with each other, so that sites may stand in for the answer.
_OF_RANK = ("auc", "average_precision", "r")


@dataclass(frozen=True)
class Home:
    """A run's own rows.

    Attributes:
        scored: Its test rows, each predicted by the fold that has not seen it.
        validation: Truth and predictions of each fold's validation rows.
        metrics: What its metrics.json says.
    """

    scored: Scored
    validation: list[tuple[FloatArray, FloatArray]]
    metrics: dict[str, Any]

    def document(self) -> dict[str, Any]:
        """The run's own results."""
        names = ("headline", "scans", "subjects", "folds", "metrics")
        return {name: self.metrics[name] for name in names}


def read_home(run: RunFolder, task: Task, folds: int) -> Home:
    """Read a finished run's own predictions."""
    tables = [read_table(run.fold_folder(number) / "predictions.tsv") for number in range(folds)]
    tests = [table[table["part"] == "test"] for table in tables]
    validation = [table[table["part"] == "validation"] for table in tables]
    test = pd.concat(tests, ignore_index=True)
    truth, predicted = _values(test, task)
    decided = task.encode(test["predicted"]) if task.n_outputs > 1 else predicted[:, 0]
    scored = Scored(
        truth=truth,
        predicted=predicted,
        decided=decided,
        fold=np.repeat(np.arange(folds), [len(part) for part in tests]).astype(np.int64),
        subject=pd.factorize(test["participant_id"])[0].astype(np.int64),
    )
    return Home(scored, [_values(part, task) for part in validation], read_json(run.metrics_file))


def _values(table: pd.DataFrame, task: Task) -> tuple[FloatArray, FloatArray]:
    truth = task.encode(table[task.target])
    return truth, table[task.columns()].astype("float64").to_numpy()


def drift(here: Scored, home: Scored, metric: Metric) -> dict[str, Any]:
    """A metric of the external rows minus that of the run's own; they are different people."""
    value, low, high = unpaired_difference(here, home, metric)
    return {"metric": metric.name, "value": value, "low": low, "high": high}


def calibration_drift(here: Scored, home: Scored, task: Task) -> dict[str, Any]:
    """Each sign of calibration of both, with intervals, and the curves of both."""
    metrics = calibration_metrics(task)
    found = [metric_intervals(part, metrics, bootstrap_rows(part)) for part in (here, home)]
    return {
        "metrics": {
            m.name: {
                "label": m.label,
                "perfect": PERFECT.get(m.name),
                "here": vars(found[0][m.name]),
                "home": vars(found[1][m.name]),
                "drift": drift(here, home, m),
            }
            for m in metrics
        },
        "curves": {"here": calibration_curve(here), "home": calibration_curve(home)},
    }


def points_document(
    points: Sequence[OperatingPoint], here: Scored, home: Home
) -> list[dict[str, Any]]:
    """What is decided at thresholds that the run's validation rows gave.

    Rows of the run are decided at the threshold of the fold that tests them, external rows at the
    mean over folds.
    """
    documents = []
    rows = [(truth, predicted[:, -1]) for truth, predicted in home.validation]
    for point in points:
        threshold, of_folds = transferred(point, rows)
        each = np.where(np.isnan(of_folds), threshold, of_folds)
        documents.append(
            {
                "point": point.text,
                "threshold": threshold,
                "folds": of_folds,
                "validation_rows": sum(len(truth) for truth, _ in rows),
                "here": _at(here, np.full(len(here), threshold)),
                "home": _at(home.scored, each[home.scored.fold]),
            }
        )
    return documents


def _at(scored: Scored, thresholds: npt.NDArray[np.float64]) -> dict[str, Any]:
    decided = replace(scored, decided=(scored.predicted[:, 1] >= thresholds).astype(np.float64))
    found = metric_intervals(decided, AT_A_POINT, bootstrap_rows(decided))
    return {m.name: {"label": m.label, **vars(found[m.name])} for m in AT_A_POINT}


def within_sites(scored: Scored, table: pd.DataFrame, task: Task) -> dict[str, Any] | None:
    """Metrics of rank that compare scans of one site alone; None where there is one site.

    Where sites differ in who comes to them, telling sites apart earns a score that knows nothing of
    disease; within a site it earns none.
    """
    metrics = [task.metrics[name] for name in _OF_RANK if name in task.metrics]
    if "site" not in table or not metrics:
        return None
    sites = pd.factorize(table["site"].fillna("n/a"))[0].astype(np.int64)
    if len(np.unique(sites)) < 2:
        return None
    part = within(scored, sites)
    found = metric_intervals(part, metrics, bootstrap_rows(part))
    return {m.name: {"label": m.label, **vars(found[m.name])} for m in metrics}
