"""Scans that lack slices, to test how a network bears it (Gupta et al., ISBI 2021 and 2023).

The rules follow the published description, with three repairs: slices that are left stay in their
order, noise takes the place of a slice instead of being added to it, and the neighbours that fill
gaps are slices that were kept.
"""

import math
from typing import Literal

import torch

from braintune.errors import InputError

Axis = Literal["x", "y", "z"]
Style = Literal["random", "ordered"]
Impute = Literal["drop", "zeros", "noise", "fill"]


def drop_slices(
    images: torch.Tensor,
    axis: Axis,
    keep: float,
    style: Style = "random",
    impute: Impute = "drop",
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Drop slices of scans; all scans of a batch lose the same ones.

    Args:
        images: Shape (batch, channels, x, y, z); left as it is.
        axis: The axis along which slices are dropped.
        keep: Share of slices that are kept, in (0, 1]; at least one slice is.
        style: ``random`` keeps any slices, ``ordered`` every k-th, with k the least whole number
            that keeps no more than asked.
        impute: ``drop`` takes the slices away, which leaves fewer; ``zeros``, uniform ``noise``
            between a scan's least and largest intensity, or, to ``fill``, the nearest slice that
            was kept takes their place.
        generator: Where randomness comes from.

    Returns:
        Scans of the same shape, or of fewer slices for ``drop``.

    Raises:
        InputError: If `keep` is no share.

    Example:
        >>> scan = torch.arange(6.0).view(1, 1, 6, 1, 1)
        >>> drop_slices(scan, "x", 0.5, "ordered").flatten()
        tensor([0., 2., 4.])
        >>> drop_slices(scan, "x", 0.5, "ordered", "fill").flatten()
        tensor([0., 0., 2., 2., 4., 4.])
    """
    dim = 2 + "xyz".index(axis)
    kept = kept_slices(images.shape[dim], keep, style, generator)
    if impute == "drop":
        return images.index_select(dim, kept.to(images.device))
    every = torch.arange(images.shape[dim])
    if impute == "fill":
        nearest = kept[(every[:, None] - kept).abs().argmin(dim=1)]
        return images.index_select(dim, nearest.to(images.device))
    is_kept = torch.isin(every, kept).to(images.device)
    is_kept = is_kept.view([-1 if d == dim else 1 for d in range(images.ndim)])
    instead = torch.zeros_like(images) if impute == "zeros" else _noise(images, generator)
    return torch.where(is_kept, images, instead)


def kept_slices(
    slices: int, keep: float, style: Style, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Indices of the slices that are kept, rising.

    Raises:
        InputError: If `keep` is no share.

    Example:
        >>> kept_slices(10, 0.3, "ordered")
        tensor([0, 4, 8])
    """
    if not 0 < keep <= 1:
        raise InputError(f"The share of slices to keep must be above 0 and at most 1, not {keep}.")
    # Shares such as 0.29 have no exact binary value: 100 of them would be 28 slices.
    rounding = 1e-9
    if style == "ordered":
        return torch.arange(0, slices, math.ceil(1 / keep - rounding))
    count = max(1, math.floor(slices * keep + rounding))
    return torch.randperm(slices, generator=generator)[:count].sort().values


def _noise(images: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    low, high = (f(images, dim=(1, 2, 3, 4), keepdim=True) for f in (torch.amin, torch.amax))
    noise = torch.rand(images.shape, generator=generator, dtype=images.dtype)
    return low + (high - low) * noise.to(images.device)
