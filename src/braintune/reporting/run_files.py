"""What a finished run left on disk, read for its page."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from braintune.cohort.tables import read_table
from braintune.files import read_json, read_lines
from braintune.run import RunFolder
from braintune.tasks.task import TASKS, AnyTask, Task


@dataclass(frozen=True)
class RunFiles:
    """What a finished run left on disk."""

    run: RunFolder
    metrics: dict[str, Any]
    cohort: pd.DataFrame
    predictions: pd.DataFrame
    histories: list[pd.DataFrame]
    folds: list[dict[str, Any]]
    task: AnyTask
    weights: dict[str, Any] | None

    @property
    def values(self) -> Task:
        """The task of a run that predicts one value a scan."""
        assert isinstance(self.task, Task)
        return self.task


def read_files(run: RunFolder) -> RunFiles:
    """Read a finished run."""
    metrics = read_json(run.metrics_file)
    folders = [run.fold_folder(number) for number in range(metrics["folds"])]
    model = read_json(run.model_folder / "model.json")
    kind = run.recipe.task.kind
    return RunFiles(
        run=run,
        metrics=metrics,
        cohort=read_table(run.cohort_file),
        predictions=read_table(run.predictions_file),
        histories=[pd.DataFrame(read_lines(folder / "history.jsonl")) for folder in folders],
        folds=[read_json(folder / "fold.json") for folder in folders],
        task=TASKS.get(kind).restore(model["members"][0]["task"]),
        weights=read_json(run.weights_file) if run.weights_file.exists() else None,
    )
