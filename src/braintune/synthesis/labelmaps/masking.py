"""Stripping the skull, and scaling intensities."""

from typing import Literal

import numpy as np
import torch

from braintune.synthesis.labelmaps.acquisition import along_axes, blurring

# Full width at half maximum of the blur of the mask, in millimetres, and where it is cut: below a
# half the mask is wider than the brain, as those of most tools are.
_EDGE_MM = 7.0
_EDGE = (0.15, 0.5)


def draw_edge(chance: np.random.Generator) -> float:
    """Draw how closely the skull is stripped."""
    return float(chance.uniform(*_EDGE))


def stripped(image: torch.Tensor, brain: torch.Tensor, edge: float, spacing: float) -> torch.Tensor:
    """Set to 0 what lies outside a smoothed mask.

    Args:
        image: Of shape (x, y, z).
        brain: Which voxels are brain, of the same shape.
        edge: Where the smoothed mask, from 0 to 1, is cut.
        spacing: Voxel size in millimetres.
    """
    blurs = tuple(blurring(n, _EDGE_MM / spacing) for n in image.shape)
    return image * (along_axes(brain.float(), blurs) > edge)


def scaled(image: torch.Tensor, rule: Literal["none", "zscore", "minmax"]) -> torch.Tensor:
    """Scale intensities over voxels that are not 0, as preparation does.

    Example:
        >>> scaled(torch.tensor([0.0, 1.0, 3.0]), "zscore").tolist()
        [0.0, -1.0, 1.0]
    """
    if rule == "none":
        return image
    inside = image != 0
    values = image[inside]
    if not len(values):
        return image
    if rule == "zscore":
        low, width = values.mean(), values.std(correction=0)
    else:
        low, width = values.min(), values.max() - values.min()
    return torch.where(inside, (image - low) / width.clamp_min(1e-6), 0.0)
