"""Training the network of one fold, step by step, so that it can stop anywhere and go on."""

import time
from dataclasses import dataclass
from pathlib import Path

import lightning_fabric
import numpy as np
import torch

from braintune.adapters.adapter import check_options, set_training
from braintune.console import Progress
from braintune.errors import BraintuneError, InterruptedFitError, listing
from braintune.evaluation.splits import Fold
from braintune.files import write_lines
from braintune.fitting.averaging import MovingAverage
from braintune.fitting.batches import (
    Rows,
    derive_seed,
    epoch_rows,
    steps_per_epoch,
    stratum_weights,
)
from braintune.fitting.checkpoint import (
    Checkpoint,
    State,
    load_checkpoint,
    load_moving_state,
    moving_state,
    save_checkpoint,
)
from braintune.fitting.inference import predict_rows, swapped
from braintune.fitting.interrupt import StopRequest
from braintune.fitting.network import Network, make_network
from braintune.fitting.optimiser import demand_current, make_optimiser, set_learning_rate
from braintune.fitting.precision import Precision, keep_exact
from braintune.fitting.recalibration import recalibrate
from braintune.fitting.schedule import lr_factor
from braintune.imaging.augment import STRENGTHS, augment
from braintune.imaging.loader import ScanLoader
from braintune.recipe import Recipe
from braintune.tasks.task import FloatArray, Task


@dataclass(frozen=True)
class FoldData:
    """What a fold learns from.

    Attributes:
        loader: Reads scans by their row.
        truth: The encoded target of every row.
        fold: Which rows train, validate and test.
        number: The fold's number, from 0.
    """

    loader: ScanLoader
    truth: FloatArray
    fold: Fold
    number: int


@dataclass(frozen=True)
class Machinery:
    """Where and how a fold trains; none of it changes what is learnt.

    Attributes:
        fabric: Devices and processes.
        precision: Number format and memory layout.
        folder: Where the checkpoint to go on from lies, and the history for who watches.
        every: Seconds between checkpoints.
        stop: Whether someone asked to stop.
    """

    fabric: lightning_fabric.Fabric
    precision: Precision
    folder: Path
    every: float
    stop: StopRequest

    @property
    def checkpoint(self) -> Path:
        """The file to go on from."""
        return self.folder / "checkpoint.pt"

    @property
    def history(self) -> Path:
        """One line of JSON an epoch, written as training goes."""
        return self.folder / "history.jsonl"


class FoldTrainer:
    """Trains one fold's network.

    Args:
        recipe: The whole recipe.
        task: The task, fitted on the fold's training rows.
        data: What to learn from.
        machinery: Where and how.

    Attributes:
        network: The network; after `run` it has the weights that are kept.
        history: One entry an epoch.
    """

    def __init__(self, recipe: Recipe, task: Task, data: FoldData, machinery: Machinery) -> None:
        self._recipe, self._train = recipe, recipe.train
        self._task, self._data, self._machinery = task, data, machinery
        # Strata are cut from training rows alone; others are never asked for.
        self._strata = np.zeros(len(data.truth), dtype=np.int64)
        self._strata[data.fold.train] = task.strata(data.truth[data.fold.train])
        self._step_size = recipe.train.batch_size * recipe.train.accumulate
        self._steps = steps_per_epoch(len(data.fold.train), self._step_size)
        self._strength = STRENGTHS[recipe.train.augment]
        # Every fold starts from the same weights, so that frozen parts are the same in all.
        torch.manual_seed(derive_seed(recipe.seed, "start"))
        network = make_network(recipe, task)
        keep_exact(network, machinery.precision.exact)
        machinery.precision.arrange_kernels(network)
        self.network: Network = network.to(machinery.fabric.device)
        optimiser = make_optimiser(self.network, recipe.train)
        self._wrapped, self._optimiser = machinery.fabric.setup(self.network, optimiser)
        ema = recipe.train.ema
        self._average = MovingAverage(self.network, ema) if ema else None
        self._weights = self._loss_weights()
        self._state = Checkpoint()
        self._saved = time.monotonic()

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole fold."""
        return self._steps * self._train.epochs

    @property
    def history(self) -> list[dict[str, float]]:
        """One entry an epoch: losses, metric on validation rows, learning rate, seconds."""
        return self._state.history

    @property
    def best_epoch(self) -> int:
        """The epoch whose weights are kept, from 1."""
        return self._state.best_epoch if self._keeps_best else len(self.history)

    def resume(self) -> int:
        """Go on from the checkpoint, if there is one.

        Returns:
            The steps that are done already.
        """
        found = load_checkpoint(self._machinery.checkpoint)
        if found is None:
            return 0
        load_moving_state(self.network, found.trained)
        self._optimiser.load_state_dict(found.optimiser)
        if self._average is not None and found.average is not None:
            self._average.steps = found.average_steps
            for key, value in found.average.items():
                self._average.state[key].copy_(value)
        self._state = found
        return found.step

    def run(self, bar: Progress) -> None:
        """Train to the end, or until stopping early says so.

        Raises:
            InterruptedFitError: If someone asked to stop; a checkpoint was written.
            BraintuneError: If the loss is no longer a number.
        """
        demand_current(self._optimiser, self.network)
        if self._state.step == 0:
            self._recalibrate()
        while self._state.step < self.total_steps and not self._has_stalled():
            epoch = self._state.step // self._steps
            began = time.monotonic()
            batches = self._epoch_batches(epoch)[self._state.step % self._steps :]
            flat = [rows for step in batches for rows in step]
            images = self._data.loader.batches(flat, held=self._train.accumulate)
            for step_rows in batches:
                self._step([(rows, next(images)) for rows in step_rows])
                bar.advance(note=self._note(epoch))
                if self._state.step % self._steps:
                    self._pause()
            self._end_epoch(epoch, time.monotonic() - began)
            self._pause()
        if (left := self.total_steps - self._state.step) > 0:
            bar.skip(left)
        self._take_kept_weights()

    def _recalibrate(self) -> None:
        """Estimate batch norms' statistics anew on the training rows, if the recipe says so.

        Every process looks at all of the rows, so that all come to the same statistics.
        """
        adapter, machinery = self._recipe.adapter, self._machinery
        if check_options(adapter.name, adapter.options).norms != "recalibrate":
            return
        rows = self._data.fold.train
        # Batches of at least two scans: one alone may have a single value a channel.
        count = steps_per_epoch(len(rows), max(2, self._train.batch_size))
        batches = self._data.loader.batches(np.array_split(rows, count))
        with machinery.fabric.autocast():
            recalibrate(
                self.network.backbone,
                (
                    machinery.precision.arrange(b.to(machinery.fabric.device).float())
                    for b in batches
                ),
            )
        if self._average is not None:
            self._average.restart(self.network)

    def _lr(self, step: int) -> float:
        """The learning rate of a step, before the factors of groups of parameters."""
        train = self._train
        return train.lr * lr_factor(step, self.total_steps, train.warmup, train.schedule)

    def _step(self, parts: list[tuple[Rows, torch.Tensor]]) -> None:
        """One optimiser step, over one or more batches whose gradients add up."""
        step, fabric = self._state.step, self._machinery.fabric
        set_learning_rate(self._optimiser, self._lr(step))
        # Dropout draws from the global generator; seeded here, a resumed run draws the same.
        torch.manual_seed(
            derive_seed(self._recipe.seed, self._data.number, step, fabric.global_rank)
        )
        set_training(self._wrapped)
        total = 0.0
        for index, (rows, images) in enumerate(parts):
            loss = self._loss(rows, images) / len(parts)
            with fabric.no_backward_sync(self._wrapped, enabled=index < len(parts) - 1):
                fabric.backward(loss)
            total += float(loss.detach())
        norm = fabric.clip_gradients(
            self._wrapped,
            self._optimiser,
            max_norm=self._train.clip or float("inf"),
            error_if_nonfinite=False,
        )
        if not np.isfinite([total, float(norm or 0.0)]).all():
            raise BraintuneError(self._not_a_number(step, parts))
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        if self._average is not None:
            self._average.update(self.network)
        self._state.step += 1
        self._state.epoch_loss += total

    def _loss(self, rows: Rows, images: torch.Tensor) -> torch.Tensor:
        device = self._machinery.fabric.device
        batch = images.to(device, non_blocking=True).float()
        if self._strength is not None:
            parts = (self._recipe.seed, self._data.number, self._state.step)
            seeds = [derive_seed(*parts, int(row)) for row in rows]
            batch = augment(batch, seeds, self._strength)
        outputs = self._wrapped(self._machinery.precision.arrange(batch))
        truth = torch.as_tensor(self._data.truth[rows], dtype=torch.float32, device=device)
        losses = self._task.loss(outputs.float(), truth)
        if self._weights is not None:
            losses = losses * torch.as_tensor(
                self._weights[self._strata[rows]], dtype=torch.float32, device=device
            )
        return losses.mean()

    def _epoch_batches(self, epoch: int) -> list[list[Rows]]:
        """For each step of an epoch, this process's share of each of its batches."""
        fold, fabric = self._data.fold, self._machinery.fabric
        seed = derive_seed(self._recipe.seed, self._data.number, "epoch", epoch)
        balanced = self._train.balance == "sampler"
        rows = epoch_rows(fold.train, self._strata[fold.train], balanced, seed)
        steps = [rows[i * self._step_size : (i + 1) * self._step_size] for i in range(self._steps)]
        return [
            [
                part[fabric.global_rank :: fabric.world_size]
                for part in np.array_split(step, -(-len(step) // self._train.batch_size))
            ]
            for step in steps
        ]

    def _end_epoch(self, epoch: int, seconds: float) -> None:
        """Validate, note the epoch, and keep its weights if they are the best so far."""
        with swapped(self.network, self._average.state if self._average else None):
            outputs = self.outputs(self._data.fold.validation)
            state = self._state
            truth = torch.as_tensor(
                self._data.truth[self._data.fold.validation], dtype=torch.float32
            )
            loss = float(self._task.loss(outputs, truth).mean())
            if loss < state.best_loss:
                state.best_loss, state.best_epoch = loss, epoch + 1
                if self._keeps_best:
                    state.best = _copied(moving_state(self.network))
        state.history.append(
            {
                "epoch": epoch + 1,
                "loss": state.epoch_loss / self._steps,
                "validation_loss": loss,
                "lr": self._lr(self._state.step - 1),
                "seconds": round(seconds, 3),
            }
        )
        state.epoch_loss = 0.0
        if self._machinery.fabric.is_global_zero:
            # All of it each time: a resumed fit does some epochs again.
            write_lines(self._machinery.history, state.history)

    def outputs(self, rows: Rows) -> torch.Tensor:
        """The network's outputs for some rows, of shape (rows, outputs)."""
        return predict_rows(
            self._wrapped,
            self._data.loader,
            rows.tolist(),
            self._machinery.fabric,
            self._machinery.precision,
            batch_size=self._train.batch_size,
            flip_average=self._train.flip_average,
        )

    def _pause(self) -> None:
        """Write a checkpoint when it is time, or when someone asked to stop."""
        fabric = self._machinery.fabric
        stop = self._machinery.stop.wanted
        if fabric.world_size > 1:
            stop = bool(fabric.broadcast(stop))
        if not stop and time.monotonic() - self._saved < self._machinery.every:
            return
        self._save()
        if stop:
            epoch = self._state.step // self._steps
            raise InterruptedFitError(
                f"Stopped in fold {self._data.fold.name} after {epoch} of {self._train.epochs}"
                " epochs. The same command goes on from here."
            )

    def _save(self) -> None:
        state = self._state
        state.trained = moving_state(self.network)
        state.optimiser = self._optimiser.state_dict()
        if self._average is not None:
            names = state.trained.keys()
            state.average = {name: self._average.state[name] for name in names}
            state.average_steps = self._average.steps
        if self._machinery.fabric.is_global_zero:
            save_checkpoint(self._machinery.checkpoint, state)
        self._saved = time.monotonic()

    @property
    def _keeps_best(self) -> bool:
        return self._train.keep == "best"

    def _has_stalled(self) -> bool:
        patience = self._train.patience
        stale = len(self.history) - self._state.best_epoch
        return patience is not None and len(self.history) > 0 and stale >= patience

    def _take_kept_weights(self) -> None:
        kept: State | None = self._average.state if self._average else None
        if self._keeps_best:
            kept = self._state.best
        if kept is not None:
            self.network.load_state_dict({**self.network.state_dict(), **kept})

    def _loss_weights(self) -> FloatArray | None:
        if self._train.balance != "weights":
            return None
        return stratum_weights(self._strata[self._data.fold.train])

    def _note(self, epoch: int) -> str:
        done = self._state.step % self._steps or self._steps
        loss = f" loss {self._state.epoch_loss / done:.3f}" if self._state.epoch_loss else ""
        seen = f" validation {self.history[-1]['validation_loss']:.3f}" if self.history else ""
        return f"fold {self._data.fold.name} epoch {epoch + 1}{loss}{seen}"

    def _not_a_number(self, step: int, parts: list[tuple[Rows, torch.Tensor]]) -> str:
        rows = [int(row) for part, _ in parts for row in part]
        scans = listing(self._data.loader.scan_ids[row] for row in rows)
        return (
            f"Step {step + 1} of fold {self._data.fold.name} gave a loss or a gradient that is no"
            f" number (scans {scans}). Try a lower train.lr, or train.precision fp32. The last"
            " checkpoint is kept."
        )


def _copied(state: State) -> State:
    return {name: value.clone() for name, value in state.items()}
