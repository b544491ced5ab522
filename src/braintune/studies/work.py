"""One fit of a study, in whatever process: train, validate, predict, write."""

import os
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from braintune.cohort.tables import read_table
from braintune.errors import BraintuneError, InterruptedFitError
from braintune.evaluation.splits import Fold
from braintune.files import make_folder, write_json
from braintune.fitting.inference import predict_rows
from braintune.fitting.interrupt import StopRequest
from braintune.fitting.machinery import FoldData, Machinery
from braintune.fitting.network import blank_images, outline
from braintune.fitting.precision import choose_precision, find_exact, keep_freed_memory, make_fabric
from braintune.fitting.training import FoldTrainer
from braintune.imaging.loader import ScanLoader
from braintune.imaging.store import PreparedStore
from braintune.recipe import Recipe, TaskRecipe
from braintune.studies.contexts import Split, read_split
from braintune.studies.folder import StudyFolder
from braintune.studies.memory import PeakMemory
from braintune.studies.plan import Fit
from braintune.studies.recipe import TuneRecipe
from braintune.studies.search import is_hopeless
from braintune.tasks.task import Task


@dataclass(frozen=True)
class Order:
    """A fit with all that a process needs to do it.

    Attributes:
        fit: The fit.
        study: The study's folder.
        recipe: The plain values of its recipe.
        cohort: The cohort's name.
        splits: The hash of its splits.
        store: The prepared store.
        tune: Of its search, if trials may be stopped early.
        accelerator: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        external: Each external cohort's name and prepared store.
    """

    fit: Fit
    study: Path
    recipe: dict[str, Any]
    cohort: str
    splits: str
    store: Path
    tune: TuneRecipe | None
    accelerator: str
    external: tuple[tuple[str, Path], ...] = ()


class _Silent:
    """The progress of a fit inside a study, whose own progress counts whole fits."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Show nothing."""

    def skip(self, steps: int) -> None:
        """Show nothing."""


class _Contender(FoldTrainer):
    """Trains until its search has seen enough.

    Args:
        order: The fit.
        recipe: Its recipe.
        task: The task, fitted on the fold's training rows.
        data: What to learn from.
        machinery: Where and how.
    """

    def __init__(
        self, order: Order, recipe: Recipe, task: Task, data: FoldData, machinery: Machinery
    ) -> None:
        self._order = order
        super().__init__(recipe, task, data, machinery)

    @property
    def curve(self) -> list[float]:
        """Validation loss after each epoch."""
        return [entry["validation_loss"] for entry in self.history]

    @property
    def is_stopped(self) -> bool:
        """Whether the search stopped it before its end."""
        tune, ended = self._order.tune, len(self.history) >= self._train.epochs
        if tune is None or ended or super()._has_stalled():
            return False
        return is_hopeless(tune, self._order.fit.earlier, self.curve)

    def outputs_elsewhere(self, loader: ScanLoader) -> torch.Tensor:
        """The network's outputs for all scans of another cohort, of shape (scans, outputs)."""
        # The whole network: what trained may have seen activations in the place of scans.
        fabric = self._machinery.fabric
        with fabric.autocast():
            return predict_rows(
                self.network,
                loader,
                range(len(loader.scan_ids)),
                fabric,
                self._machinery.precision,
                batch_size=self._train.batch_size,
                flip_average=self._train.flip_average,
            )

    def _has_stalled(self) -> bool:
        return super()._has_stalled() or self.is_stopped


def run_order(order: Order, stop: StopRequest | None = None) -> str | None:
    """Do a fit, unless it is done.

    Whatever goes wrong with it is written down, and does not stop others.

    Returns:
        What went wrong, if something did.

    Raises:
        InterruptedFitError: If someone asked to stop; the fit goes on from here another time.
    """
    folder = StudyFolder(order.study)
    if folder.result_file(order.fit.id).exists():
        return None
    try:
        _fit(order, folder, stop or StopRequest())
    except InterruptedFitError:
        raise
    except BraintuneError as error:
        return _failed(order, folder, str(error))
    except Exception as error:  # a fit of a study must not end the others, whatever it met
        return _failed(order, folder, f"{type(error).__name__}: {error}", traceback.format_exc())
    return None


def _failed(order: Order, folder: StudyFolder, reason: str, trace: str = "") -> str:
    write_failure(folder, order.fit, reason, trace)
    return reason


def write_failure(folder: StudyFolder, fit: Fit, reason: str, trace: str = "") -> None:
    """Write down why a fit failed."""
    document = {**_facts(fit), "reason": reason, "traceback": trace}
    write_json(folder.failure_file(fit.id), document)
    folder.forget_work(fit.id)


def _facts(fit: Fit) -> dict[str, Any]:
    return {
        "id": fit.id,
        "context": fit.context,
        "choice": fit.choice,
        "fold": fit.fold + 1,
        "seed": fit.seed,
        "settings": fit.settings,
    }


def _fit(order: Order, folder: StudyFolder, stop: StopRequest) -> None:
    fit, recipe = order.fit, Recipe.parse(order.recipe)
    split = _split(order.study, order.cohort, fit.context, recipe.task.model_dump_json())
    if split.hash != order.splits:
        raise BraintuneError(f"The splits of {fit.context} have changed since the study began.")
    began = time.monotonic()
    memory = PeakMemory()
    fold = split.folds[fit.fold]
    trainer = _trainer(order, recipe, split, fold, stop)
    trainer.resume()
    trainer.run(_Silent())
    losses = trainer.curve
    complete = not trainer.is_stopped
    result = {
        **_facts(fit),
        "splits": split.hash,
        "complete": complete,
        "validation_loss": min(losses) if recipe.train.keep == "best" else losses[-1],
        "curve": losses,
        "epochs": len(losses),
        "training_seconds": round(sum(entry["seconds"] for entry in trainer.history), 3),
        "train_rows": len(fold.train),
        "validation_rows": len(fold.validation),
        "test_rows": len(fold.test),
        **_counts(trainer),
    }
    if complete:
        result["threshold"] = _predict(order, folder, split, fold, trainer)
    result["seconds"] = round(time.monotonic() - began, 3)
    result["peak_mb"] = memory.megabytes()
    # Written last: a fit with a result is done.
    write_json(folder.result_file(fit.id), result)
    folder.forget_work(fit.id)


def _predict(
    order: Order, folder: StudyFolder, split: Split, fold: Fold, trainer: _Contender
) -> float | None:
    """Write the predictions of test rows away; return the validation rows' operating point."""
    task = split.task.fit(split.truth[fold.train])
    seen = task.predict(trainer.outputs(fold.validation)).double().numpy()
    test = task.predict(trainer.outputs(fold.test)).double().numpy()
    external = {}
    for name, store in order.external:
        scans = read_table(folder.cohort_file(name))["scan_id"].tolist()
        loader = ScanLoader(PreparedStore.open(store), scans)
        external[name] = task.predict(trainer.outputs_elsewhere(loader)).double().tolist()
    document = {"predicted": test.tolist(), "external": external}
    write_json(folder.test_file(order.fit.id), document)
    threshold = task.find_threshold(split.truth[fold.validation], seen)
    return None if np.isnan(threshold) else threshold


def _trainer(
    order: Order, recipe: Recipe, split: Split, fold: Fold, stop: StopRequest
) -> _Contender:
    device = torch.device(
        "cuda" if order.accelerator != "cpu" and torch.cuda.is_available() else "cpu"
    )
    keep_freed_memory()
    task = split.task.fit(split.truth[fold.train])
    exact = find_exact(outline(recipe, task), blank_images(recipe))
    precision = choose_precision(recipe.train.precision, device, exact)
    machinery = Machinery(
        fabric=make_fabric(precision, device.type),
        precision=precision,
        folder=make_folder(StudyFolder(order.study).fit_folder(order.fit.id) / "work"),
        every=60.0,
        stop=stop,
    )
    loader = ScanLoader(PreparedStore.open(order.store), split.cohort.scan_ids)
    data = FoldData(loader, split.truth, fold, order.fit.fold)
    return _Contender(order, recipe, task, data, machinery)


def _counts(trainer: FoldTrainer) -> dict[str, int]:
    parameters: Sequence[torch.nn.Parameter] = list(trainer.network.parameters())
    return {
        "trainable": sum(p.numel() for p in parameters if p.requires_grad),
        "parameters": sum(p.numel() for p in parameters),
    }


@lru_cache(maxsize=8)
def _split(study: Path, cohort: str, context: str, recipe: str) -> Split:
    """The same for all fits of a context and a task, of which a process does many."""
    folder = StudyFolder(study)
    task = TaskRecipe.model_validate_json(recipe)
    return read_split(folder.cohort_file(cohort), folder.splits_file(context), task)


def processor_threads(threads: int) -> None:
    """Keep a process that does fits to its share of the cores."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    torch.set_num_threads(threads)
