"""Cutting scans into patches, choosing which are hidden, and the loss on those alone."""

from collections.abc import Sequence

import numpy as np
import torch

Triple = tuple[int, int, int]
# What is added to a patch's variance, as in the published code of masked autoencoders.
_EPS = 1e-6


def patchify(images: torch.Tensor, edge: int) -> torch.Tensor:
    """Cut images into cubes.

    Args:
        images: Of shape (batch, channels, x, y, z), multiples of the edge.
        edge: Voxels along the edge of a cube.

    Returns:
        Of shape (batch, patches, channels · edge³): patches with z fastest, the numbers of each in
        the order of a convolution's kernel.

    Example:
        >>> patchify(torch.arange(16.0).view(1, 1, 2, 2, 4), 2)[0, :, :4].tolist()
        [[0.0, 1.0, 4.0, 5.0], [2.0, 3.0, 6.0, 7.0]]
    """
    cut = images.unfold(2, edge, edge).unfold(3, edge, edge).unfold(4, edge, edge)
    return cut.permute(0, 2, 3, 4, 1, 5, 6, 7).flatten(4).flatten(1, 3)


def voxel_mask(hidden: torch.Tensor, grid: Triple, edge: int) -> torch.Tensor:
    """The voxels of hidden patches.

    Args:
        hidden: Whether each patch is, of shape (batch, patches).
        grid: Patches along each axis.
        edge: Voxels along the edge of a patch.

    Returns:
        Of shape (batch, 1, x, y, z), bool.
    """
    mask = hidden.view(len(hidden), 1, *grid)
    for axis in (2, 3, 4):
        mask = mask.repeat_interleave(edge, dim=axis)
    return mask


def draw_order(grid: Triple, block: int, seed: int) -> torch.Tensor:
    """An order of the patches at random, in which those of one block follow each other.

    The first of them are hidden. Blocks are cubes of a lattice that is shifted at random.

    Args:
        grid: Patches along each axis.
        block: Patches along the edge of a block; 1 hides single patches (He et al. 2022).
        seed: Of the draw.

    Returns:
        A permutation, of shape (patches,).
    """
    random = np.random.default_rng(seed)
    shift = random.integers(block, size=3)
    cells = np.indices(grid).reshape(3, -1) + shift[:, None]
    cells = cells // block
    counts = [int(n) for n in cells.max(axis=1) + 1]
    number = np.ravel_multi_index(tuple(cells), counts)
    ranks = random.permutation(int(np.prod(counts)))[number]
    return torch.from_numpy(np.argsort(ranks + random.random(len(ranks))))


def draw_orders(grid: Triple, block: int, seeds: Sequence[int]) -> torch.Tensor:
    """An order of the patches for each scan, of shape (batch, patches)."""
    return torch.stack([draw_order(grid, block, seed) for seed in seeds])


def count_hidden(patches: int, ratio: float) -> int:
    """How many patches are hidden: at least one, and at least one is left.

    Example:
        >>> count_hidden(64, 0.75), count_hidden(2, 0.99)
        (48, 1)
    """
    return min(max(1, round(ratio * patches)), patches - 1)


def masked_losses(
    predicted: torch.Tensor, truth: torch.Tensor, hidden: torch.Tensor, normalise: bool
) -> torch.Tensor:
    """The mean squared error over hidden patches (He et al. 2022, arXiv 2111.06377).

    Args:
        predicted: Of shape (batch, patches, numbers).
        truth: Of the same shape.
        hidden: Whether each patch is, of shape (batch, patches).
        normalise: Whether each patch of the truth is brought to mean 0 and variance 1 first, which
            the paper found to give better features.

    Returns:
        The loss of each scan, of shape (batch,).
    """
    if normalise:
        variance, mean = torch.var_mean(truth, dim=2, keepdim=True)
        truth = (truth - mean) / (variance + _EPS).sqrt()
    errors = (predicted.float() - truth).square().mean(dim=2)
    return (errors * hidden).sum(dim=1) / hidden.sum(dim=1)
