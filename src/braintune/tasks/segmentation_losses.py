"""Losses of label maps: one number a scan, from logits of every voxel."""

import torch
import torch.nn.functional as F


def soft_dice(
    logits: torch.Tensor, labels: torch.Tensor, with_background: bool, smooth: float = 1e-5
) -> torch.Tensor:
    """The Dice loss (Milletari et al. 2016, arXiv 1606.04797) of each class, averaged.

    For each class, 1 - 2 Σ p g / (Σ p + Σ g), with probabilities p and the class's indicator g,
    summed over the voxels of one scan.

    Args:
        logits: Of shape (batch, classes, x, y, z); class 0 is the background.
        labels: Class numbers, of shape (batch, x, y, z).
        with_background: Whether the background is one of the classes averaged over.
        smooth: Voxels that are added to both sides of the fraction, so that it is defined for what
            is nowhere.

    Returns:
        Of shape (batch,).

    Example:
        >>> labels = torch.tensor([0, 1]).view(1, 2, 1, 1)
        >>> logits = 99 * F.one_hot(labels, 2).movedim(-1, 1).float()
        >>> soft_dice(logits, labels, with_background=False).round()
        tensor([0.])
    """
    chances = logits.softmax(dim=1).flatten(2)
    truth = torch.zeros_like(chances).scatter_(1, labels.flatten(1)[:, None], 1.0)
    if not with_background:
        chances, truth = chances[:, 1:], truth[:, 1:]
    both = (chances * truth).sum(dim=2)
    sizes = chances.sum(dim=2) + truth.sum(dim=2)
    return 1 - ((2 * both + smooth) / (sizes + smooth)).mean(dim=1)


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The mean cross-entropy over the voxels of each scan, of shape (batch,)."""
    return F.cross_entropy(logits, labels, reduction="none").flatten(1).mean(dim=1)


def focal(logits: torch.Tensor, labels: torch.Tensor, gamma: float) -> torch.Tensor:
    """The focal loss (Lin et al. 2017, arXiv 1708.02002): -(1 - p)^γ log p of the true class.

    Args:
        logits: Of shape (batch, classes, x, y, z).
        labels: Class numbers, of shape (batch, x, y, z).
        gamma: How much less voxels count that are right already; 0 is the cross-entropy.

    Returns:
        The mean over the voxels of each scan, of shape (batch,).
    """
    logs = -F.cross_entropy(logits, labels, reduction="none")
    return (-((1 - logs.exp()) ** gamma) * logs).flatten(1).mean(dim=1)


def over_scales(losses: list[torch.Tensor]) -> torch.Tensor:
    """The weighted mean of the losses of several scales, of which each counts half as the finer.

    Args:
        losses: From fine to coarse, each of shape (batch,).

    Example:
        >>> over_scales([torch.tensor([3.0]), torch.tensor([0.0])])
        tensor([2.])
    """
    weights = [0.5**number for number in range(len(losses))]
    mixed = [weight * loss for weight, loss in zip(weights, losses, strict=True)]
    return torch.stack(mixed).sum(dim=0) / sum(weights)


def labels_at(labels: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Label maps on a coarser grid of the same extent, by the nearest voxel.

    Args:
        labels: Of shape (batch, x, y, z).
        shape: Voxels of the coarser grid.
    """
    coarse = F.interpolate(labels[:, None].float(), size=shape, mode="nearest-exact")
    return coarse[:, 0].long()
