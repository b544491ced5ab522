"""One fold of a run: train, open the test rows once, write what was predicted."""

import numpy as np
import pandas as pd

from braintune.cohort.tables import read_table, write_table_text
from braintune.console import Progress
from braintune.evaluation.bias import AgeBias, fit_bias
from braintune.files import read_json, write_json, write_text
from braintune.fitting.model import member_document, save_member
from braintune.fitting.plan import FitPlan
from braintune.fitting.training import FoldData, FoldTrainer, Machinery
from braintune.imaging.loader import ScanLoader
from braintune.imaging.store import PreparedStore
from braintune.run import RunFolder
from braintune.tasks.regression import Regression
from braintune.tasks.task import FloatArray, Task


def is_done(run: RunFolder, number: int) -> bool:
    """Whether a fold is finished; its description is written last."""
    return (run.fold_folder(number) / "fold.json").exists()


def fit_fold(
    run: RunFolder,
    plan: FitPlan,
    store: PreparedStore,
    number: int,
    machinery: Machinery,
    bar: Progress,
) -> None:
    """Train a fold's network, or finish what an earlier session began, and test it."""
    fold, fabric = plan.folds[number], machinery.fabric
    task = plan.task.fit(plan.truth[fold.train])
    loader = ScanLoader(store, plan.cohort.scan_ids, pin=fabric.device.type == "cuda")
    data = FoldData(loader, plan.truth, fold, number)
    trainer = FoldTrainer(plan.recipe, task, data, machinery)
    bar.skip(trainer.resume())
    trainer.run(bar)
    validation = task.predict(trainer.outputs(fold.validation)).double().numpy()
    test = task.predict(trainer.outputs(fold.test)).double().numpy()
    if not fabric.is_global_zero:
        return
    run.note("test opened", fold=fold.name, scans=len(fold.test))
    threshold = task.find_threshold(plan.truth[fold.validation], validation)
    bias = _bias(task, plan.truth[fold.validation], validation)
    folder = run.fold_folder(number)
    tables = [
        _predictions(plan, number, part, predicted, threshold, bias)
        for part, predicted in (("validation", validation), ("test", test))
    ]
    write_text(folder / "predictions.tsv", write_table_text(pd.concat(tables)))
    saved = save_member(run.model_folder, number, trainer.network)
    write_json(
        folder / "fold.json",
        {
            "fold": fold.name,
            "best_epoch": trainer.best_epoch,
            "seconds": sum(entry["seconds"] for entry in trainer.history),
            "member": member_document(saved, task, threshold, bias),
        },
    )
    machinery.checkpoint.unlink(missing_ok=True)
    run.note("fold finished", fold=fold.name)


def read_fold(run: RunFolder, number: int) -> tuple[pd.DataFrame, dict[str, object]]:
    """A finished fold's predictions and its description."""
    folder = run.fold_folder(number)
    return read_table(folder / "predictions.tsv"), read_json(folder / "fold.json")


def _bias(task: Task, truth: FloatArray, predicted: FloatArray) -> AgeBias | None:
    if not isinstance(task, Regression) or not task.adjusts_bias:
        return None
    return fit_bias(predicted[:, 0], truth)


def _predictions(
    plan: FitPlan,
    number: int,
    part: str,
    predicted: FloatArray,
    threshold: float,
    bias: AgeBias | None,
) -> pd.DataFrame:
    """One row a scan of one side of a fold, for people and for the scores."""
    fold, task = plan.folds[number], plan.task
    rows = fold.parts()[part]
    truth = plan.truth[rows]
    table = plan.cohort.table.iloc[rows][["scan_id", "participant_id", "session_id"]].copy()
    table["fold"] = fold.name
    table["part"] = part
    table[task.target] = task.describe(truth)
    for column, values in zip(task.columns(), predicted.T, strict=True):
        table[column] = [f"{value:.9g}" for value in values]
    if task.n_outputs > 1:
        table["predicted"] = task.describe(task.decide(predicted, threshold))
    if bias is not None:
        adjusted = bias.adjust(predicted[:, 0], truth)
        table[f"adjusted_{task.target}"] = [f"{value:.9g}" for value in np.asarray(adjusted)]
    return table
