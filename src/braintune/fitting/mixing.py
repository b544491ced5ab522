"""Mixing scans of a batch: mixup, and cutmix over all three axes.

Mixup (Zhang et al. 2018, arXiv 1710.09412) blends two scans, cutmix (Yun et al. 2019, arXiv
1905.04899) puts a box of one into the other. Each scan draws for itself, from a seed of its own, so
that a mixture is the same whatever process makes it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from braintune.training_recipe import TrainRecipe

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Mixture:
    """How one scan is mixed with its partner.

    Attributes:
        share: Of the scan itself, in the image and in the loss; the rest is the partner's.
        box: The voxels that are the partner's alone; None blends all voxels by the share.
    """

    share: float = 1.0
    box: Box | None = None


def draw_mixture(recipe: TrainRecipe, shape: tuple[int, int, int], seed: int) -> Mixture:
    """Draw how a scan is mixed, if it is.

    Args:
        recipe: Shares of scans for mixup and cutmix; both parameters of the Beta distribution.
        shape: Voxels along x, y and z.
        seed: Of the scan at this step.

    Example:
        >>> draw_mixture(TrainRecipe(mixup=0, cutmix=0), (8, 8, 8), 0)
        Mixture(share=1.0, box=None)
        >>> mixture = draw_mixture(TrainRecipe(cutmix=1), (10, 10, 10), 1)
        >>> round(1 - float(np.ones((10, 10, 10))[mixture.box].sum()) / 1000 - mixture.share, 9)
        0.0
    """
    random = np.random.default_rng(seed)
    chance, share = random.random(), float(random.beta(recipe.mix_alpha, recipe.mix_alpha))
    if chance < recipe.mixup:
        return Mixture(share)
    if chance >= recipe.mixup + recipe.cutmix:
        return Mixture()
    box = _box(shape, 1 - share, random)
    taken = np.prod([part.stop - part.start for part in box]) / np.prod(shape)
    return Mixture(float(1 - taken), box)


def _box(shape: tuple[int, int, int], share: float, random: np.random.Generator) -> Box:
    """A box of the image's form and of a share of its volume, cut off at the image's edges."""
    box = []
    for n in shape:
        edge = n * share ** (1 / 3)
        start = random.integers(n) - edge / 2
        low, high = np.clip(np.round([start, start + edge]), 0, n).astype(int)
        box.append(slice(int(low), int(high)))
    x, y, z = box
    return x, y, z


def mix(images: torch.Tensor, partners: torch.Tensor, mixtures: Sequence[Mixture]) -> torch.Tensor:
    """Mix every image with its partner.

    Args:
        images: Of shape (batch, channels, x, y, z).
        partners: Of the same shape.
        mixtures: One an image.

    Returns:
        New images of the same shape.
    """
    mixed = images.clone()
    for image, partner, mixture in zip(mixed, partners, mixtures, strict=True):
        if mixture.box is not None:
            region = (slice(None), *mixture.box)
            image[region] = partner[region]
        elif mixture.share < 1:
            image.lerp_(partner, 1 - mixture.share)
    return mixed
