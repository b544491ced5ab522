"""What a fold's network learns of label maps: patches of scans, changed with their labels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from braintune.evaluation.splits import Fold
from braintune.fitting.batches import Rows, Share, derive_seed
from braintune.fitting.features.shown import Shown
from braintune.fitting.machinery import Machinery
from braintune.fitting.network import Network, make_network
from braintune.imaging.augment import strength_of
from braintune.imaging.loader import ScanLoader
from braintune.imaging.patches import Patches, augment_patches, choose_start, cut
from braintune.imaging.store import PreparedStore
from braintune.recipe import Recipe
from braintune.tasks.segmentation import Segmentation
from braintune.tasks.task import IntArray


class LabelledScans:
    """The scans of a store with their label maps as one channel more, the last.

    Args:
        store: A store of labelled scans.
    """

    def __init__(self, store: PreparedStore) -> None:
        self._store = store

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of every scan: (channels + 1, x, y, z)."""
        channels, *shape = self._store.shape
        x, y, z = shape
        return (channels + 1, x, y, z)

    def read_into(self, scan_id: str, image: npt.NDArray[np.float16]) -> None:
        """Read a scan and its labels, which are small numbers that float16 holds exactly."""
        self._store.read_into(scan_id, image[:-1])
        image[-1] = self._store.read_labels(scan_id)


@dataclass(frozen=True)
class SegmentationData:
    """The labelled scans that a fold learns from.

    Attributes:
        loader: Reads `LabelledScans` by their row.
        fold: Which rows train, validate and test.
        number: The fold's number, from 0.
    """

    loader: ScanLoader
    fold: Fold
    number: int


@dataclass(frozen=True)
class LabelledPatches:
    """A batch as a network and the loss see it.

    Attributes:
        images: Of shape (batch, channels, x, y, z), on the device.
        labels: Class numbers, of shape (batch, x, y, z).
    """

    images: torch.Tensor
    labels: torch.Tensor


class PatchLoss:
    """Makes batches of patches, and their losses.

    Args:
        recipe: How patches are changed.
        task: The loss.
        number: The fold's number, by which each scan's chance is seeded.
        machinery: Memory layout and device.
    """

    def __init__(
        self, recipe: Recipe, task: Segmentation, number: int, machinery: Machinery
    ) -> None:
        self._task, self._machinery = task, machinery
        self._seed = (recipe.seed, number)
        self._patch = task.input_shape(recipe)
        self._strength = strength_of(recipe.train.augment)

    def batch(self, share: Share, images: torch.Tensor, step: int) -> LabelledPatches:
        """Take a patch of each scan, and change it at random.

        Args:
            share: Which scans.
            images: Those of `Share.loaded`, with the label map as the last channel.
            step: By which each scan's chance is seeded.
        """
        seeds = [derive_seed(*self._seed, step, int(row)) for row in share.loaded]
        patches = self._patches(images, seeds)
        on_device = images.to(self._machinery.fabric.device, non_blocking=True).float()
        scans, labels = on_device[:, :-1], on_device[:, -1:]
        if self._strength is None:
            return self._arranged(cut(scans, patches), cut(labels, patches))
        scans, labels, flips = augment_patches(scans, labels, patches, seeds, self._strength)
        return self._arranged(scans, self._swapped(labels, flips))

    def still(self, images: torch.Tensor, rows: Sequence[int]) -> LabelledPatches:
        """A patch of each scan, the same one at every call, not changed."""
        seeds = [derive_seed(*self._seed, "still", row) for row in rows]
        patches = self._patches(images, seeds)
        on_device = images.to(self._machinery.fabric.device).float()
        return self._arranged(cut(on_device[:, :-1], patches), cut(on_device[:, -1:], patches))

    def __call__(
        self, network: Callable[[torch.Tensor], Any], batch: LabelledPatches
    ) -> torch.Tensor:
        """The loss of each patch, of shape (batch,)."""
        outputs = network(batch.images)
        scales = outputs if isinstance(outputs, list) else [outputs]
        return self._task.loss(scales, batch.labels)

    def _patches(self, images: torch.Tensor, seeds: Sequence[int]) -> Patches:
        labels = images[:, -1].numpy().astype(np.uint8)
        foreground = self._task.options.foreground
        starts = [
            choose_start(of_scan, self._patch, foreground, derive_seed("patch", seed))
            for of_scan, seed in zip(labels, seeds, strict=True)
        ]
        return Patches(self._patch, starts)

    def _swapped(self, labels: torch.Tensor, flips: list[bool]) -> torch.Tensor:
        """The labels of patches whose left and right were swapped, each the other side's."""
        if not self._task.options.mirrored or not any(flips):
            return labels
        table = self._task.mirrored.to(labels.device)
        rows = torch.tensor(flips, device=labels.device)[:, None, None, None, None]
        return torch.where(rows, table[labels.long()].to(labels.dtype), labels)

    def _arranged(self, images: torch.Tensor, labels: torch.Tensor) -> LabelledPatches:
        return LabelledPatches(self._machinery.precision.arrange(images), labels[:, 0].long())


class SegmentationLesson:
    """Label maps, learnt from patches.

    The validation loss is of one patch a scan, always the same: whole scans would take longer than
    the epoch that they follow.

    Args:
        recipe: The whole recipe.
        task: The task.
        data: What to learn from.
        machinery: Where and how.
    """

    def __init__(
        self, recipe: Recipe, task: Segmentation, data: SegmentationData, machinery: Machinery
    ) -> None:
        self._recipe, self._task, self._data, self._machinery = recipe, task, data, machinery
        self.loss = PatchLoss(recipe, task, data.number, machinery)

    def make_network(self) -> Network:
        """The network, with its weights loaded and its adapter in place."""
        return make_network(self._recipe, self._task)

    def shown(self, network: Network) -> Shown:
        """All of it, and patches of scans."""
        return Shown(network, self._data.loader)

    def strata(self, rows: Rows) -> IntArray:
        """All scans are one stratum."""
        return np.zeros(len(rows), dtype=np.int64)

    def inputs(self, loaded: torch.Tensor) -> torch.Tensor:
        """The patch in the middle of each scan."""
        shape = self._task.input_shape(self._recipe)
        x, y, z = ((n - p) // 2 for n, p in zip(loaded.shape[2:], shape, strict=True))
        scans = loaded[:, :-1].to(self._machinery.fabric.device).float()
        return cut(scans, Patches(shape, [(x, y, z)] * len(loaded)))

    @torch.no_grad()
    def validation_losses(self, network: nn.Module, rows: Rows) -> torch.Tensor:
        """The loss of a patch of each of some rows, of shape (rows,)."""
        size = self._recipe.train.batch_size
        batches = [rows[i : i + size].tolist() for i in range(0, len(rows), size)]
        network.eval()
        losses = [
            self.loss(network, self.loss.still(images, batch)).cpu()
            for batch, images in zip(batches, self._data.loader.batches(batches), strict=True)
        ]
        return torch.cat(losses)
