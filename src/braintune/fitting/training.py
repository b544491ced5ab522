"""Training the network of one fold, step by step, so that it can stop anywhere and go on."""

import time

import numpy as np
import torch

from braintune.adapters.adapter import check_options
from braintune.adapters.frozen import lighten
from braintune.console import Progress
from braintune.errors import InterruptedFitError
from braintune.files import write_lines
from braintune.fitting.averaging import make_average
from braintune.fitting.batches import (
    Rows,
    Share,
    derive_seed,
    epoch_rows,
    share_batch,
    steps_per_epoch,
)
from braintune.fitting.checkpoint import (
    Checkpoint,
    State,
    load_checkpoint,
    load_moving_state,
    moving_state,
    save_checkpoint,
)
from braintune.fitting.failures import all_finite, failed
from braintune.fitting.inference import swapped
from braintune.fitting.lesson import Lesson, ValueLesson
from braintune.fitting.machinery import FoldData as FoldData
from braintune.fitting.machinery import FoldScans
from braintune.fitting.machinery import Machinery as Machinery
from braintune.fitting.network import Network
from braintune.fitting.optimiser import demand_current
from braintune.fitting.precision import keep_exact
from braintune.fitting.recalibration import recalibrate
from braintune.fitting.schedule import learning_rate
from braintune.fitting.stepping import Stepper
from braintune.recipe import Recipe
from braintune.tasks.task import Task


class Trainer:
    """Trains one fold's network.

    Args:
        recipe: The whole recipe.
        lesson: What is learnt.
        data: What to learn from.
        machinery: Where and how.

    Attributes:
        network: The network; after `run` it has the weights that are kept.
        history: One entry an epoch.
    """

    def __init__(
        self, recipe: Recipe, lesson: Lesson, data: FoldScans, machinery: Machinery
    ) -> None:
        self._recipe, self._train = recipe, recipe.train
        self._lesson, self._data, self._machinery = lesson, data, machinery
        self._step_size = recipe.train.batch_size * recipe.train.accumulate
        self._steps = steps_per_epoch(len(data.fold.train), self._step_size)
        # Every fold starts from the same weights, so that frozen parts are the same in all.
        torch.manual_seed(derive_seed(recipe.seed, "start"))
        network = lesson.make_network()
        keep_exact(network, machinery.precision.exact)
        machinery.precision.arrange_kernels(network)
        self.network: Network = network.to(machinery.fabric.device)
        lighten(self.network)
        shown = lesson.shown(self.network)
        self._loader = shown.loader
        self._stepper = Stepper(recipe, lesson.loss, data, machinery, self.network, shown.module)
        self._average = make_average(self._train, self.network)
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
        self._stepper.optimiser.load_state_dict(found.optimiser)
        if self._average is not None:
            self._average.restore(self.network, found.average, found.average_steps)
        self._state = found
        return found.step

    def run(self, bar: Progress) -> None:
        """Train to the end, or until stopping early says so.

        Raises:
            InterruptedFitError: If someone asked to stop; a checkpoint was written.
            BraintuneError: If the loss is no longer a number.
        """
        demand_current(self._stepper.optimiser, self.network)
        if self._state.step == 0:
            self._recalibrate()
        while self._state.step < self.total_steps and not self._has_stalled():
            epoch = self._state.step // self._steps
            began = time.monotonic()
            steps = self._epoch_shares(epoch)[self._state.step % self._steps :]
            flat = [share.loaded for shares in steps for share in shares]
            images = self._loader.batches(flat, held=self._train.accumulate)
            for shares in steps:
                parts = [(share, next(images)) for share in shares]
                step = self._state.step
                self._state.epoch_loss += self._stepper.take(step, self._lr(step), parts)
                self._state.step += 1
                if self._average is not None:
                    self._average.after_step(self.network)
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
                (machinery.precision.arrange(self._lesson.inputs(b)) for b in batches),
            )
        if self._average is not None:
            self._average.restart(self.network)

    def _lr(self, step: int) -> float:
        return learning_rate(self._train, step, self.total_steps)

    def _epoch_shares(self, epoch: int) -> list[list[Share]]:
        """For each step of an epoch, this process's share of each of its batches."""
        fold, fabric = self._data.fold, self._machinery.fabric
        seeds = (self._recipe.seed, self._data.number, "epoch", epoch)
        balanced = self._train.balance == "sampler"
        strata = self._lesson.strata(fold.train)
        rows = epoch_rows(fold.train, strata, balanced, derive_seed(*seeds))
        steps = [rows[i * self._step_size : (i + 1) * self._step_size] for i in range(self._steps)]
        return [
            [
                share_batch(
                    batch,
                    derive_seed(*seeds, step, number) if self._train.mixes else None,
                    fabric.global_rank,
                    fabric.world_size,
                )
                for number, batch in enumerate(
                    np.array_split(of_step, -(-len(of_step) // self._train.batch_size))
                )
            ]
            for step, of_step in enumerate(steps)
        ]

    def _end_epoch(self, epoch: int, seconds: float) -> None:
        """Validate, note the epoch, and keep its weights if they are the best so far."""
        state = self._state
        if self._average is not None:
            self._average.after_epoch(self.network, left=self._train.epochs - 1 - epoch)
        with swapped(self.network, self._average.state if self._average else None):
            loss = self._validation_loss(epoch)
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

    def _validation_loss(self, epoch: int) -> float:
        """The mean loss of the validation rows.

        Raises:
            BraintuneError: If it is no number.
        """
        rows = self._data.fold.validation
        losses = self._lesson.validation_losses(self._stepper.wrapped, rows)
        if not all_finite([losses]):
            bad = rows[~torch.isfinite(losses).numpy()]
            raise failed(
                f"After epoch {epoch + 1} (step {self._state.step}) of fold"
                f" {self._data.fold.name} the validation loss is no number",
                [self._data.loader.scan_ids[row] for row in bad],
            )
        return float(losses.mean())

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
        if not all_finite(state.trained.values()):
            raise failed(
                f"After step {state.step} of fold {self._data.fold.name} the weights are no numbers"
            )
        state.optimiser = self._stepper.optimiser.state_dict()
        if self._average is not None:
            averaged = self._average.state
            if averaged is not None:
                state.average = {name: averaged[name] for name in state.trained}
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
        kept = self._average.state if self._average else None
        if self._keeps_best:
            kept = self._state.best
        if kept is not None:
            self.network.load_state_dict({**self.network.state_dict(), **kept})

    def _note(self, epoch: int) -> str:
        done = self._state.step % self._steps or self._steps
        loss = f" loss {self._state.epoch_loss / done:.3f}" if self._state.epoch_loss else ""
        seen = f" validation {self.history[-1]['validation_loss']:.3f}" if self.history else ""
        return f"fold {self._data.fold.name} epoch {epoch + 1}{loss}{seen}"


class FoldTrainer(Trainer):
    """Trains one fold's network to predict one value a scan.

    Args:
        recipe: The whole recipe.
        task: The task, fitted on the fold's training rows.
        data: What to learn from.
        machinery: Where and how.
    """

    def __init__(self, recipe: Recipe, task: Task, data: FoldData, machinery: Machinery) -> None:
        self._values = ValueLesson(recipe, task, data, machinery)
        super().__init__(recipe, self._values, data, machinery)

    def outputs(self, rows: Rows) -> torch.Tensor:
        """The network's outputs for some rows, of shape (rows, outputs)."""
        return self._values.outputs(self._stepper.wrapped, rows)


def _copied(state: State) -> State:
    return {name: value.clone() for name, value in state.items()}
