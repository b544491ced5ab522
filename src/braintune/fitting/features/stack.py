"""Many small heads trained as one computation: each as it would be trained alone.

Heads on features that are there already cost next to nothing to compute, and a processor's time
goes into starting each operation. So the parameters of all of them lie in one tensor, and every
step moves all.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from braintune.fitting.batches import derive_seed, epoch_rows, steps_per_epoch
from braintune.fitting.features.optimisers import Stack, StackedOptimiser
from braintune.fitting.features.targets import RowTable, Target, mean_losses
from braintune.fitting.schedule import lr_factor
from braintune.recipe import Recipe
from braintune.tasks.task import IntArray


@dataclass
class Learner:
    """A head to be trained, and what becomes of it.

    Attributes:
        recipe: Its whole recipe.
        target: What it learns.
        train: Its training rows.
        validation: Its validation rows.
        number: Its fold's number, by which the order of scans is seeded.
        head: It; after training it has the weights that are kept.
        history: One entry an epoch, as a fold's.
        best_epoch: The epoch of the least validation loss, from 1.
        failure: Why it was given up, if it was.
    """

    recipe: Recipe
    target: Target
    train: RowTable
    validation: RowTable
    number: int
    head: nn.Module
    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    failure: str | None = None

    @property
    def steps(self) -> int:
        """Optimiser steps an epoch."""
        return steps_per_epoch(len(self.train), self.recipe.train.batch_size)

    def rows(self, epoch: int) -> RowTable:
        """The training rows of an epoch, in the order in which they are learnt from."""
        strata: IntArray = self.target.strata
        seed = derive_seed(self.recipe.seed, self.number, "epoch", epoch)
        balanced = self.recipe.train.balance == "sampler"
        rows = epoch_rows(self.train, strata, balanced, seed)
        return rows[: self.steps * self.recipe.train.batch_size]


@dataclass(frozen=True)
class Features:
    """What the frozen backbone makes of all scans.

    Attributes:
        plain: Of shape (rows, features), float32, on the device; rows that no learner needs may
            hold anything.
        mirrored: The same of mirrored scans, if the recipe averages over them.
        autocast: The number format of products, if it is another.
    """

    plain: torch.Tensor
    mirrored: torch.Tensor | None = None
    autocast: torch.dtype | None = None

    def outputs(self, shell: nn.Module, parameters: Stack, rows: RowTable) -> torch.Tensor:
        """Outputs of stacked heads, as in training.

        Args:
            shell: A head of the same shape.
            parameters: Of all heads.
            rows: The scans of each, of shape (heads, batch).

        Returns:
            Of shape (heads, batch, outputs), float32.
        """
        return self._through(shell, parameters, self.plain, rows)

    def predicted(self, shell: nn.Module, parameters: Stack, rows: RowTable) -> torch.Tensor:
        """The same as in evaluation, where mirror images may count."""
        outputs = self._through(shell, parameters, self.plain, rows)
        if self.mirrored is None:
            return outputs
        return (outputs + self._through(shell, parameters, self.mirrored, rows)) / 2

    def _through(
        self, shell: nn.Module, parameters: Stack, features: torch.Tensor, rows: RowTable
    ) -> torch.Tensor:
        def one(own: Stack, x: torch.Tensor) -> torch.Tensor:
            outputs: torch.Tensor = functional_call(shell, own, (x,))
            return outputs

        shown = features[torch.as_tensor(rows, device=features.device)]
        wanted = self.autocast
        with torch.autocast(features.device.type, wanted, enabled=wanted is not None):
            outputs: torch.Tensor = vmap(one)(parameters, shown).float()
        return outputs


class HeadStack:
    """Trains learners whose recipes differ in learning rate and seed only.

    Args:
        learners: Of as many steps an epoch each, with heads of one shape.
        features: What they learn from.
    """

    def __init__(self, learners: Sequence[Learner], features: Features) -> None:
        self._live, self._features = list(learners), features
        self._train, self._steps = learners[0].recipe.train, learners[0].steps
        self._shell = learners[0].head
        device = features.plain.device
        stacked, _ = stack_module_state([learner.head for learner in learners])
        self._parameters: Stack = {n: p.detach().to(device) for n, p in stacked.items()}
        self._optimiser = StackedOptimiser(self._train, self._parameters)
        self._rates = torch.tensor([one.recipe.train.lr for one in learners], device=device)
        self._losses = torch.full((len(learners),), float("inf"), device=device)
        self._best = _copied(self._parameters)
        self._average = _copied(self._parameters) if self._averages else None
        self._averaged = 0

    @property
    def _averages(self) -> bool:
        return bool(self._train.ema or self._train.average_last)

    def run(self) -> None:
        """Train all of them to the end, or until stopping early says so."""
        for epoch in range(self._train.epochs):
            began = time.monotonic()
            means = self._epoch(epoch)
            if self._live:
                self._end_epoch(epoch, means, began)
        self._release([True] * len(self._live))

    def _epoch(self, epoch: int) -> torch.Tensor:
        """All steps of an epoch; the mean loss of each learner."""
        size, total = self._train.batch_size, torch.zeros_like(self._rates)
        rows = {id(one): one.rows(epoch) for one in self._live}
        for number in range(self._steps):
            if not self._live:
                break
            part = slice(number * size, (number + 1) * size)
            losses, gradients = self._gradients(np.stack([rows[id(o)][part] for o in self._live]))
            norms = torch.stack([g.flatten(1).norm(dim=1) for g in gradients.values()]).norm(dim=0)
            step = epoch * self._steps + number
            bad = (~torch.isfinite(losses + norms)).tolist()
            if any(bad):
                reason = f"Step {step + 1} gave a loss or a gradient that is no number"
                self._release(bad, reason)
                good = torch.tensor([not one for one in bad], device=losses.device)
                losses, norms, total = losses[good], norms[good], total[good]
                gradients = {name: g[good] for name, g in gradients.items()}
            self._step(step, gradients, norms)
            total = total + losses
        return total / self._steps

    def _gradients(self, rows: RowTable) -> tuple[torch.Tensor, Stack]:
        """The mean loss of each learner over its batch, and the gradients."""
        leaves = {name: p.detach().requires_grad_() for name, p in self._parameters.items()}
        outputs = self._features.outputs(self._shell, leaves, rows)
        targets = [one.target for one in self._live]
        losses = mean_losses(targets, outputs, rows, weighed=True)
        found = torch.autograd.grad(losses.sum(), list(leaves.values()))
        return losses.detach(), dict(zip(leaves, found, strict=True))

    def _step(self, step: int, gradients: Stack, norms: torch.Tensor) -> None:
        train = self._train
        if train.clip:
            # As torch does: a norm below the limit is left as it is.
            shrink = (train.clip / (norms + 1e-6)).clamp(max=1.0)
            for gradient in gradients.values():
                gradient.mul_(_over(shrink, gradient))
        total = train.epochs * self._steps
        factor = lr_factor(step, total, train.warmup, train.schedule, train.power)
        self._optimiser.step(self._parameters, gradients, self._rates * factor)
        if train.ema and self._average is not None:
            self._averaged += 1
            keep = min(train.ema, (1 + self._averaged) / (10 + self._averaged))
            self._blend(1 - keep)

    def _end_epoch(self, epoch: int, means: torch.Tensor, began: float) -> None:
        """Validate, note the epoch, keep the best weights, and let go who has stalled."""
        train, last = self._train, self._train.average_last
        if last is not None and train.epochs - 1 - epoch < last:
            self._averaged += 1
            self._blend(1 / self._averaged)
        seen = self._judged()
        losses = self._validation_losses(seen)
        better = losses < self._losses
        self._losses = torch.where(better, losses, self._losses)
        self._best = {
            name: torch.where(_over(better, best), seen[name], best)
            for name, best in self._best.items()
        }
        steps = train.epochs * self._steps
        factor = lr_factor(
            (epoch + 1) * self._steps - 1, steps, train.warmup, train.schedule, train.power
        )
        # Each learner's share of the time that all took together.
        seconds = (time.monotonic() - began) / len(self._live)
        bad = (~torch.isfinite(losses)).tolist()
        facts = zip(self._live, means.tolist(), losses.tolist(), better.tolist(), strict=True)
        for one, mean, loss, is_better in facts:
            one.best_epoch = epoch + 1 if is_better else one.best_epoch
            one.history.append(
                {
                    "epoch": epoch + 1,
                    "loss": mean,
                    "validation_loss": loss,
                    "lr": one.recipe.train.lr * factor,
                    "seconds": round(seconds, 6),
                }
            )
        if any(bad):
            self._release(bad, f"After epoch {epoch + 1} the validation loss is no number")
        if train.patience is not None:
            self._release([epoch + 1 - one.best_epoch >= train.patience for one in self._live])

    def _judged(self) -> Stack:
        """The weights that are validated: the average, once there is one."""
        has_average = self._average is not None and (self._train.ema or self._averaged)
        return self._average if has_average and self._average is not None else self._parameters

    def _validation_losses(self, parameters: Stack) -> torch.Tensor:
        """The mean loss of each learner's validation rows, of which folds may have more or less."""
        most = max(len(one.validation) for one in self._live)
        padded = np.stack([np.resize(one.validation, most) for one in self._live])
        with torch.no_grad():
            outputs = self._features.predicted(self._shell, parameters, padded)
            targets = [one.target for one in self._live]
            counts = [len(one.validation) for one in self._live]
            return mean_losses(targets, outputs, padded, weighed=False, counts=counts)

    def _blend(self, share: float) -> None:
        """Move the average a share of the way to the weights as they are now."""
        assert self._average is not None
        for name, average in self._average.items():
            average.lerp_(self._parameters[name], share)

    def _release(self, leaving: list[bool], failure: str | None = None) -> None:
        """Give learners that are done, or that failed, the weights that are kept."""
        if not any(leaving):
            return
        kept = self._best if self._train.keep == "best" else self._judged()
        for place, one in enumerate(self._live):
            if leaving[place]:
                one.failure = failure
                one.head.load_state_dict({n: v[place].cpu() for n, v in kept.items()})
        stay = torch.tensor([not leaves for leaves in leaving], device=self._rates.device)
        self._live = [o for o, leaves in zip(self._live, leaving, strict=True) if not leaves]
        self._rates, self._losses = self._rates[stay], self._losses[stay]
        self._parameters = {n: p[stay] for n, p in self._parameters.items()}
        self._best = {n: p[stay] for n, p in self._best.items()}
        if self._average is not None:
            self._average = {n: p[stay] for n, p in self._average.items()}
        self._optimiser.keep(stay)


def _over(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """One value a learner, to be multiplied with a stacked tensor."""
    return values.view(-1, *[1] * (like.ndim - 1))


def _copied(stack: Stack) -> Stack:
    return {name: value.clone() for name, value in stack.items()}
