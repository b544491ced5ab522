"""The loop of pre-training: it can stop anywhere and goes on to the same weights."""

import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from torch import nn

from braintune.console import Progress
from braintune.errors import InterruptedFitError
from braintune.files import write_lines
from braintune.fitting.averaging import WeightAverage, make_average
from braintune.fitting.batches import derive_seed, steps_per_epoch
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
from braintune.fitting.machinery import Machinery
from braintune.fitting.optimiser import make_optimiser, set_learning_rate
from braintune.fitting.precision import keep_exact
from braintune.fitting.pretraining.batches import Item, Loaded, Reader, epoch_items, in_order
from braintune.fitting.pretraining.plan import PretrainPlan, make_learner
from braintune.fitting.sam import climbed
from braintune.fitting.schedule import learning_rate
from braintune.imaging.augment import augment
from braintune.tasks.pretraining.objective import Views

# From the backbone in evaluation mode to the scores of a probe.
Look = Callable[[nn.Module], dict[str, float]]


class Pretrainer:
    """Trains a backbone and what the objective puts on it.

    Args:
        plan: What to do.
        reader: Reads and makes scans.
        machinery: Where and how.
        look: Tries the features on a cohort, if the recipe has a probe.

    Attributes:
        learner: What trains; after `run` it has the weights that are kept.
    """

    def __init__(
        self, plan: PretrainPlan, reader: Reader, machinery: Machinery, look: Look | None = None
    ) -> None:
        self._plan, self._reader, self._machinery, self._look = plan, reader, machinery, look
        self._train, self._seed = plan.recipe.train, plan.recipe.seed
        size = self._train.batch_size * self._train.accumulate
        self._steps = steps_per_epoch(plan.per_epoch, size)
        torch.manual_seed(derive_seed(self._seed, "start"))
        learner = make_learner(plan)
        keep_exact(learner, machinery.precision.exact)
        machinery.precision.arrange_kernels(learner)
        self.learner = learner.to(machinery.fabric.device)
        self._optimiser = make_optimiser(self.learner, self._train)
        self._average = make_average(self._train, self.learner)
        self._state = Checkpoint()
        self._saved = time.monotonic()

    @property
    def total_steps(self) -> int:
        """Steps of the optimiser in all."""
        return self._steps * self._train.epochs

    @property
    def history(self) -> list[dict[str, float]]:
        """One entry an epoch: loss, learning rate, seconds, and the probe's scores."""
        return self._state.history

    def resume(self) -> int:
        """Go on from the checkpoint, if there is one.

        Returns:
            The steps that are done already.
        """
        found = load_checkpoint(self._machinery.checkpoint)
        if found is None:
            return 0
        load_moving_state(self.learner, found.trained)
        self._optimiser.load_state_dict(found.optimiser)
        if self._average is not None:
            self._average.restore(self.learner, found.average, found.average_steps)
        self._state = found
        return found.step

    def run(self, bar: Progress, workers: int = 1) -> None:
        """Train to the end.

        Args:
            bar: Shows the steps.
            workers: Processes that make scans ahead; what is learnt does not depend on them.

        Raises:
            InterruptedFitError: If someone asked to stop; a checkpoint was written.
            BraintuneError: If the loss is no longer a number.
        """
        batches = in_order(self._reader.load, list(self._batches(self._state.step)), workers)
        began = time.monotonic()
        while self._state.step < self.total_steps:
            loaded = [next(batches) for _ in range(self._train.accumulate)]
            self._state.epoch_loss += self._take(self._state.step, loaded)
            self._state.step += 1
            if self._average is not None:
                self._average.after_step(self.learner)
            bar.advance(note=self._note())
            if self._state.step % self._steps == 0:
                self._end_epoch(time.monotonic() - began)
                began = time.monotonic()
            self._pause()
        kept = self._average.state if self._average else None
        if kept is not None:
            self.learner.load_state_dict({**self.learner.state_dict(), **kept})

    def _batches(self, step: int) -> Iterator[list[Item]]:
        """The scans of each batch from a step on."""
        counts = [source.count for source in self._reader.sources]
        weights = [source.weight for source in self._plan.sources]
        size, every = self._train.batch_size, self._steps * self._train.accumulate
        for epoch in range(step // self._steps, self._train.epochs):
            items = epoch_items(counts, weights, self._plan.per_epoch, epoch, self._seed)
            first = (
                (step % self._steps) * self._train.accumulate if epoch == step // self._steps else 0
            )
            for number in range(first, every):
                yield items[number * size : (number + 1) * size]

    def _take(self, step: int, loaded: list[Loaded]) -> float:
        """One step of the optimiser, over one or more batches whose gradients add up.

        Returns:
            The loss before the step.
        """
        set_learning_rate(self._optimiser, self._lr(step))
        self.learner.train()
        views = [self._views(batch, step, number) for number, batch in enumerate(loaded)]
        passes = [self._gradients(step, views)]
        if self._train.sam is not None:
            with climbed(self.learner, self._train.sam):
                passes.append(self._gradients(step, views))
        limit = self._train.clip or float("inf")
        norm = nn.utils.clip_grad_norm_(self.learner.parameters(), limit)
        if not all_finite([norm, *(losses for found in passes for losses in found)]):
            raise failed(
                f"Step {step + 1} (epoch {step // self._steps + 1}) gave a loss or a gradient that"
                " is no number",
                _culprits(loaded, passes[0]),
            )
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        return float(torch.stack([losses.mean() for losses in passes[0]]).mean())

    def _gradients(self, step: int, views: list[Views]) -> list[torch.Tensor]:
        """Add up the gradients of some batches; returns the losses of the scans of each."""
        # Dropout draws from the global generator; seeded here, a resumed run draws the same.
        torch.manual_seed(derive_seed(self._seed, "step", step))
        found = []
        for batch in views:
            with self._machinery.fabric.autocast():
                losses = self.learner(batch)
            (losses.mean() / len(views)).backward()
            found.append(losses.detach())
        return found

    def _views(self, loaded: Loaded, step: int, number: int) -> Views:
        """A batch on the device, changed at random."""
        device, strength = self._machinery.fabric.device, self._plan.strength
        images = torch.from_numpy(loaded.images).to(device)
        seed = partial(derive_seed, self._seed, step, number)
        places = range(len(images))
        views = [
            images
            if strength is None
            else augment(images, [seed(place, "view", view) for place in places], strength)
            for view in range(self._plan.objective.views)
        ]
        labels = loaded.labels
        return Views(
            tuple(self._machinery.precision.arrange(view) for view in views),
            {
                name: torch.as_tensor(values, dtype=torch.float32, device=device)
                for name, values in loaded.targets.items()
            },
            None if labels is None else torch.from_numpy(labels).to(device),
            tuple(seed(place, "objective") for place in places),
        )

    def _lr(self, step: int) -> float:
        return learning_rate(self._train, step, self.total_steps)

    def _end_epoch(self, seconds: float) -> None:
        """Try the features if it is time, and note the epoch."""
        state = self._state
        epoch = state.step // self._steps
        if self._average is not None:
            self._average.after_epoch(self.learner, left=self._train.epochs - epoch)
        entry = {
            "epoch": epoch,
            "loss": state.epoch_loss / self._steps,
            "lr": self._lr(state.step - 1),
            "seconds": round(seconds, 3),
        }
        every = self._plan.recipe.probe.every if self._plan.recipe.probe else 1
        if self._look is not None and (epoch % every == 0 or epoch == self._train.epochs):
            with swapped(self.learner, self._average.state if self._average else None):
                entry |= self._look(self.learner.get_submodule("backbone"))
        state.history.append(entry)
        state.epoch_loss = 0.0
        # All of it each time: what was resumed does some epochs again.
        write_lines(self._machinery.history, state.history)

    def _pause(self) -> None:
        """Write a checkpoint when it is time, or when someone asked to stop."""
        stop = self._machinery.stop.wanted
        if not stop and time.monotonic() - self._saved < self._machinery.every:
            return
        state = self._state
        state.trained = moving_state(self.learner)
        if not all_finite(state.trained.values()):
            raise failed(f"After step {state.step} the weights are no numbers")
        state.optimiser = self._optimiser.state_dict()
        if self._average is not None:
            state.average, state.average_steps = _held(self._average), self._average.steps
        save_checkpoint(self._machinery.checkpoint, state)
        self._saved = time.monotonic()
        if stop and state.step < self.total_steps:
            raise InterruptedFitError(
                f"Stopped after step {state.step} of {self.total_steps}. The same command goes on"
                " from here."
            )

    def _note(self) -> str:
        done = self._state.step % self._steps or self._steps
        epoch = (self._state.step - 1) // self._steps + 1
        return f"epoch {epoch} loss {self._state.epoch_loss / done:.3f}"


def _held(average: WeightAverage) -> State | None:
    return None if average.state is None else dict(average.state)


def _culprits(loaded: list[Loaded], losses: list[torch.Tensor]) -> list[str]:
    """The scans that are no numbers themselves, or else those whose losses are none, or all."""
    names = [name for batch in loaded for name in batch.names]
    images = [np.isfinite(image).all() for batch in loaded for image in batch.images]
    whole = torch.cat(losses).isfinite().tolist()
    for fine in (images, whole):
        if not all(fine):
            return [name for name, good in zip(names, fine, strict=True) if not good]
    return names
