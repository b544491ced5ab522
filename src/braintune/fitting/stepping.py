"""One step of training: gradients of its batches, then the optimiser."""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from braintune.adapters.adapter import set_training
from braintune.fitting.batches import Share, derive_seed
from braintune.fitting.failures import failed, find_culprits
from braintune.fitting.machinery import FoldScans, Machinery
from braintune.fitting.network import Network
from braintune.fitting.optimiser import make_optimiser, set_learning_rate
from braintune.fitting.sam import climbed
from braintune.recipe import Recipe

# A share of a batch, and its scans as the store has them.
Part = tuple[Share, torch.Tensor]


class BatchLoss(Protocol):
    """Makes batches for training, and their losses."""

    def batch(self, share: Share, images: torch.Tensor, step: int) -> Any:
        """A share of a batch as the network and the loss need it; chance is seeded by the step."""
        ...

    def __call__(self, network: Callable[[torch.Tensor], Any], batch: Any) -> torch.Tensor:
        """The loss of each scan of what `batch` made, of shape (batch,)."""
        ...


class Stepper:
    """Takes the steps of one fold.

    Args:
        recipe: The whole recipe.
        loss: Makes batches, and their losses.
        data: What is learnt from.
        machinery: Where and how.
        network: What trains, on its device.
        module: The network as it is trained: itself, or what is left of it behind frozen stages.

    Attributes:
        wrapped: That module, set up by Fabric.
        optimiser: The optimiser, set up by Fabric.
    """

    def __init__(
        self,
        recipe: Recipe,
        loss: BatchLoss,
        data: FoldScans,
        machinery: Machinery,
        network: Network,
        module: nn.Module,
    ) -> None:
        self._recipe, self._data, self._network = recipe, data, network
        self._loss = loss
        self._fabric = machinery.fabric
        optimiser = make_optimiser(network, recipe.train)
        self.wrapped, self.optimiser = self._fabric.setup(module, optimiser)

    def take(self, step: int, lr: float, parts: list[Part]) -> float:
        """One optimiser step, over one or more batches whose gradients add up.

        Args:
            step: Its number, from 0, by which all chance is seeded.
            lr: The learning rate, before the factors of groups of parameters.
            parts: The batches.

        Returns:
            The loss before the step, over all batches and processes.

        Raises:
            BraintuneError: If a loss or a gradient is no number; the weights are as they were.
        """
        train, fabric = self._recipe.train, self._fabric
        set_learning_rate(self.optimiser, lr)
        set_training(self.wrapped)
        batches: Iterable[Any] = (self._loss.batch(*part, step) for part in parts)
        if train.sam is not None:
            # Both passes see the same images.
            batches = list(batches)
        passes = [self._gradients(step, batches, len(parts))]
        if train.sam is not None:
            with climbed(self._network, train.sam):
                passes.append(self._gradients(step, batches, len(parts)))
        norm = fabric.clip_gradients(
            self.wrapped,
            self.optimiser,
            max_norm=train.clip or float("inf"),
            error_if_nonfinite=False,
        )
        totals = [self._mean(losses) for losses in passes]
        if not np.isfinite([*totals, float(norm or 0.0)]).all():
            scans = self._culprits(parts, passes)
            raise failed(
                f"Step {step + 1} of fold {self._data.fold.name} gave a loss or a gradient that is"
                " no number",
                [self._data.loader.scan_ids[row] for row in scans],
            )
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return totals[0]

    def _gradients(self, step: int, batches: Iterable[Any], count: int) -> list[torch.Tensor]:
        """Add up the gradients of some batches.

        Returns:
            The losses of the scans of each of them.
        """
        fabric = self._fabric
        # Dropout draws from the global generator; seeded here, a resumed run draws the same, and so
        # does a second pass over the same batches.
        torch.manual_seed(
            derive_seed(self._recipe.seed, self._data.number, step, fabric.global_rank)
        )
        found = []
        for index, batch in enumerate(batches):
            losses = self._loss(self.wrapped, batch)
            with fabric.no_backward_sync(self.wrapped, enabled=index < count - 1):
                fabric.backward(losses.mean() / count)
            found.append(losses.detach())
        return found

    def _mean(self, losses: list[torch.Tensor]) -> float:
        """The mean loss of a step, over its batches and all processes."""
        mean = torch.stack([of_batch.mean() for of_batch in losses]).mean()
        if self._fabric.world_size > 1:
            reduced = self._fabric.all_reduce(mean, reduce_op="mean")
            assert isinstance(reduced, torch.Tensor)
            mean = reduced
        return float(mean)

    def _culprits(self, parts: list[Part], passes: list[list[torch.Tensor]]) -> list[int]:
        """The scans that are no numbers themselves, or else those whose losses are none."""
        shares = [share for share, _ in parts]
        looks = [
            [(share.loaded, images) for share, images in parts],
            *[
                [(share.rows, losses) for share, losses in zip(shares, of_pass, strict=True)]
                for of_pass in passes
            ],
        ]
        return find_culprits(self._fabric, len(self._data.loader.scan_ids), looks)
