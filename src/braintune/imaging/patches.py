"""Patches of labelled scans for training: where they lie, and changed together with their labels.

Moving, turning and cutting out are one interpolation of the scan, so a turned patch has the scan's
own voxels at its edges, and what lies beyond the scan is 0 and background.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from braintune.imaging.augment import (
    Strength,
    changed_intensities,
    draws_of,
    flipped,
    positions_of,
)
from braintune.imaging.label_maps import Labels

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Patches:
    """Where patches lie in scans of one shape.

    Attributes:
        shape: Voxels of a patch.
        starts: The first voxel of each patch along x, y and z; below 0 where a scan is smaller.
    """

    shape: Shape
    starts: list[Shape]


def choose_start(labels: Labels, shape: Shape, foreground: float, seed: int) -> Shape:
    """Where a patch begins: around a labelled voxel, or anywhere.

    Args:
        labels: Of one scan, of shape (x, y, z).
        shape: Voxels of the patch.
        foreground: The chance that it is centred on a labelled voxel, of each label as often. At
            the edges of a scan it is moved inwards.
        seed: The same seed chooses the same patch.

    Returns:
        The first voxel. Where the scan is smaller than the patch, it is in the patch's middle.

    Example:
        >>> labels = np.zeros((9, 9, 9), dtype=np.uint8)
        >>> labels[4, 1, 8] = 1
        >>> choose_start(labels, (3, 3, 11), 1.0, seed=0)
        (3, 0, -1)
    """
    random = np.random.default_rng(seed)
    wants_label = random.random() < foreground
    anywhere = random.random(3)
    start = [int(u * (n - p + 1)) for u, n, p in zip(anywhere, labels.shape, shape, strict=True)]
    if wants_label and (present := np.flatnonzero(np.bincount(labels.ravel())[1:])).size:
        voxels = np.flatnonzero(labels == 1 + random.choice(present))
        center = np.unravel_index(random.choice(voxels), labels.shape)
        start = [int(c) - p // 2 for c, p in zip(center, shape, strict=True)]
    x, y, z = (
        min(max(s, 0), n - p) if n >= p else (n - p) // 2
        for s, n, p in zip(start, labels.shape, shape, strict=True)
    )
    return x, y, z


def cut(scans: torch.Tensor, patches: Patches) -> torch.Tensor:
    """Cut a patch out of each scan, with 0 beyond its edges.

    Args:
        scans: Of shape (batch, channels, x, y, z).
        patches: One a scan.
    """
    result = scans.new_zeros(*scans.shape[:2], *patches.shape)
    for scan, start, into in zip(scans, patches.starts, result, strict=True):
        outof, there = [], []
        for s, p, n in zip(start, patches.shape, scan.shape[1:], strict=True):
            low, high = max(s, 0), min(s + p, n)
            outof.append(slice(low, high))
            there.append(slice(low - s, high - s))
        into[(slice(None), *there)] = scan[(slice(None), *outof)]
    return result


def augment_patches(
    images: torch.Tensor,
    labels: torch.Tensor,
    patches: Patches,
    seeds: Sequence[int],
    strength: Strength,
) -> tuple[torch.Tensor, torch.Tensor, list[bool]]:
    """Cut a patch out of each scan and change it at random, its labels with it.

    Args:
        images: Whole scans, of shape (batch, channels, x, y, z), with 0 outside the brain.
        labels: Their labels as numbers, of shape (batch, 1, x, y, z).
        patches: One a scan.
        seeds: One a scan; the same seed changes a scan in the same way.
        strength: How far to go.

    Returns:
        The patches, their labels (of the nearest voxel), and whether left and right were swapped.
    """
    draws = draws_of(seeds)
    positions = positions_of(patches.shape, seeds, draws, strength, images.device)
    # From the patch's coordinates to the scan's: the last axis comes first.
    whole = np.array(images.shape[2:][::-1], dtype=float)
    part = np.array(patches.shape[::-1], dtype=float)
    starts = np.array(patches.starts, dtype=float)[:, ::-1]
    extent = np.maximum(whole - 1, 1)
    size = torch.from_numpy((part - 1) / extent).to(positions)
    middle = torch.from_numpy((2 * starts + part - 1) / extent - 1).to(positions)
    positions = positions * size + middle[:, None, None, None]
    moved = F.grid_sample(images, positions, mode="bilinear", align_corners=True)
    followed = F.grid_sample(labels, positions, mode="nearest", align_corners=True)
    return changed_intensities(moved, seeds, draws, strength), followed, flipped(seeds, strength)
