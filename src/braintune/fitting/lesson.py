"""What a fold's network learns: all that training must know of a task."""

from typing import Protocol

import numpy as np
import torch
from torch import nn

from braintune.fitting.batches import Rows, stratum_weights
from braintune.fitting.features.shown import Shown, choose_shown
from braintune.fitting.inference import predict_rows
from braintune.fitting.losses import Labels, TrainingLoss
from braintune.fitting.machinery import FoldData, Machinery
from braintune.fitting.network import Network, make_network
from braintune.fitting.stepping import BatchLoss
from braintune.imaging.loader import BatchLoader
from braintune.recipe import Recipe
from braintune.tasks.task import FloatArray, IntArray, Task


class Lesson(Protocol):
    """What is learnt from the scans of a fold."""

    @property
    def loss(self) -> BatchLoss:
        """Makes training batches, and their losses."""
        ...

    def make_network(self) -> Network:
        """The network, with its weights loaded and its adapter in place."""
        ...

    def shown(self, network: Network) -> Shown:
        """What of the network is trained, and what it is shown."""
        ...

    def strata(self, rows: Rows) -> IntArray:
        """Groups of like scans among training rows, to be drawn equally often if asked for."""
        ...

    def inputs(self, loaded: torch.Tensor) -> torch.Tensor:
        """What the network is shown of scans as the loader gives them, on its device."""
        ...

    def validation_losses(self, network: nn.Module, rows: Rows) -> torch.Tensor:
        """The loss of each of some rows, of shape (rows,); the same in every process."""
        ...


class ValueLesson:
    """One value a scan.

    Args:
        recipe: The whole recipe.
        task: The task, fitted on the fold's training rows.
        data: What to learn from.
        machinery: Where and how.
    """

    def __init__(self, recipe: Recipe, task: Task, data: FoldData, machinery: Machinery) -> None:
        self._recipe, self._task, self._data, self._machinery = recipe, task, data, machinery
        # Strata are cut from training rows alone; others are never asked for.
        self._strata = np.zeros(len(data.truth), dtype=np.int64)
        self._strata[data.fold.train] = task.strata(data.truth[data.fold.train])
        self.loss = TrainingLoss(
            recipe,
            task,
            data.number,
            Labels(data.truth, self._loss_weights()),
            machinery.precision,
            machinery.fabric.device,
        )

    def make_network(self) -> Network:
        """The network, with its weights loaded and its adapter in place."""
        return make_network(self._recipe, self._task)

    def shown(self, network: Network) -> Shown:
        """All of it and scans; or what is not frozen, and what frozen stages made of them."""
        self._shown = choose_shown(self._recipe, network, self._data, self._machinery)
        return self._shown

    def strata(self, rows: Rows) -> IntArray:
        """The task's, from training rows."""
        return self._strata[rows]

    def inputs(self, loaded: torch.Tensor) -> torch.Tensor:
        """The scans themselves."""
        return loaded.to(self._machinery.fabric.device).float()

    def validation_losses(self, network: nn.Module, rows: Rows) -> torch.Tensor:
        """The loss of each of some rows, of shape (rows,)."""
        truth = torch.as_tensor(self._data.truth[rows], dtype=torch.float32)
        return self._task.loss(self.outputs(network, rows), truth)

    def outputs(self, network: nn.Module, rows: Rows) -> torch.Tensor:
        """A network's outputs for some rows, of shape (rows, outputs).

        Args:
            network: What `shown` gave, set up by Fabric.
            rows: The rows.
        """
        shown = self._shown
        if shown.mirrored is None:
            return self._predicted(network, shown.loader, rows, flip=shown.prefix is None)
        # Activations were computed of both; those of a mirrored scan can't be made from its own.
        both = [
            self._predicted(network, loader, rows, flip=False)
            for loader in (shown.loader, shown.mirrored)
        ]
        return (both[0] + both[1]) / 2

    def _predicted(
        self, network: nn.Module, loader: BatchLoader, rows: Rows, *, flip: bool
    ) -> torch.Tensor:
        train = self._recipe.train
        return predict_rows(
            network,
            loader,
            rows.tolist(),
            self._machinery.fabric,
            self._machinery.precision,
            batch_size=train.batch_size,
            flip_average=train.flip_average and flip,
        )

    def _loss_weights(self) -> FloatArray | None:
        """How much each scan's loss counts; only those of training rows are ever used."""
        if self._recipe.train.balance != "weights":
            return None
        return stratum_weights(self._strata[self._data.fold.train])[self._strata]
