"""The loss of training scans, changed, mixed and weighed as the recipe says."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from braintune.fitting.batches import Rows, Share, derive_seed
from braintune.fitting.mixing import Mixture, draw_mixture, mix
from braintune.fitting.precision import Precision
from braintune.imaging.augment import augment, strength_of
from braintune.recipe import Recipe
from braintune.tasks.task import FloatArray, Task


@dataclass(frozen=True)
class Batch:
    """A batch as a network sees it.

    Attributes:
        share: Which scans it is of, and their partners.
        images: Of shape (batch, channels, x, y, z), changed and mixed, on the device.
        mixtures: How each is mixed; none where the recipe mixes nothing.
    """

    share: Share
    images: torch.Tensor
    mixtures: tuple[Mixture, ...]


@dataclass(frozen=True)
class Labels:
    """What is learnt of every scan.

    Attributes:
        truth: The encoded targets.
        weights: How much each scan's loss counts, or None if all count the same.
    """

    truth: FloatArray
    weights: FloatArray | None


class TrainingLoss:
    """Makes batches for training, and their losses.

    Args:
        recipe: How scans are changed and mixed.
        task: The loss.
        fold: The fold's number, by which each scan's chance is seeded.
        labels: What is learnt of every scan.
        precision: Memory layout.
        device: Where the network computes.
    """

    def __init__(
        self,
        recipe: Recipe,
        task: Task,
        fold: int,
        labels: Labels,
        precision: Precision,
        device: torch.device,
    ) -> None:
        self._train, self._task, self._labels = recipe.train, task, labels
        self._seed = (recipe.seed, fold)
        self._strength = strength_of(recipe.train.augment)
        self._precision, self._device = precision, device

    def batch(self, share: Share, images: torch.Tensor, step: int) -> Batch:
        """Change the scans of a share at random, and mix them.

        Args:
            share: Which scans.
            images: Those of `Share.loaded`, as the store has them.
            step: By which each scan's chance is seeded.
        """
        images = images.to(self._device, non_blocking=True).float()
        if self._strength is not None:
            images = augment(images, self._seeds(share.loaded, step), self._strength)
        mixtures: tuple[Mixture, ...] = ()
        if self._train.mixes:
            shape = (images.shape[2], images.shape[3], images.shape[4])
            mixtures = tuple(
                draw_mixture(self._train, shape, seed)
                for seed in self._seeds(share.rows, step, "mix")
            )
            images = mix(images[share.own], images[share.others], mixtures)
        return Batch(share, self._precision.arrange(images), mixtures)

    def __call__(
        self, network: Callable[[torch.Tensor], torch.Tensor], batch: Batch
    ) -> torch.Tensor:
        """The loss of each scan, of shape (batch,).

        The loss of a mixed scan is that with its own target and that with its partner's, each as
        much as it has of the image. For cross-entropy this is the loss of the mixed label; for soft
        labels and the squared error it is so up to a constant, so that the gradient is the same.
        For the absolute error it is not: it is least at the target that has more of the image.
        """
        outputs = network(batch.images).float()
        losses = self._losses(outputs, batch.share.rows)
        if not batch.mixtures:
            return losses
        others = self._losses(outputs, batch.share.partners)
        shares = torch.tensor([mixture.share for mixture in batch.mixtures], device=self._device)
        return shares * losses + (1 - shares) * others

    def _losses(self, outputs: torch.Tensor, rows: Rows) -> torch.Tensor:
        losses = self._task.loss(outputs, self._on_device(self._labels.truth[rows]))
        if self._labels.weights is None:
            return losses
        return losses * self._on_device(self._labels.weights[rows])

    def _seeds(self, rows: Rows, step: int, *purpose: str) -> list[int]:
        return [derive_seed(*self._seed, step, int(row), *purpose) for row in rows]

    def _on_device(self, values: FloatArray) -> torch.Tensor:
        return torch.as_tensor(values, dtype=torch.float32, device=self._device)
