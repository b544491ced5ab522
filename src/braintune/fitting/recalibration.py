"""Statistics of batch norms estimated anew, for a frozen backbone that meets other scans.

Frozen batch norms compute with the mean and variance of the scans that their weights were trained
on. Here these are replaced by those of the fold's training rows, as in precise batch norm (Wu and
Johnson 2021, arXiv 2105.07576): one pass in which every norm computes with its batch's own
statistics, which are pooled over all batches.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from braintune.adapters.adapter import norms_with_statistics


@dataclass
class _Moments:
    """Count, mean and sum of squared differences from the mean, of each channel.

    Batches are pooled by the rule of Chan, Golub and LeVeque, which keeps its digits where a sum
    of squares would lose them.
    """

    count: int
    mean: torch.Tensor
    squares: torch.Tensor

    def add(self, other: "_Moments") -> None:
        total = self.count + other.count
        difference = other.mean - self.mean
        self.mean = self.mean + difference * (other.count / total)
        self.squares = (
            self.squares + other.squares + difference**2 * (self.count * other.count / total)
        )
        self.count = total


@torch.no_grad()
def recalibrate(network: nn.Module, batches: Iterable[torch.Tensor]) -> None:
    """Estimate the statistics of a network's resting batch norms anew, in place.

    The means and the variances (unbiased, as batch norms keep them) of the first norm are exactly
    those of all scans together. Later norms see what batch statistics before them let through, so
    theirs depend slightly on how the scans are batched.

    Args:
        network: Only norms that keep their statistics in training are changed.
        batches: Images of shape (batch, channels, x, y, z), in the network's memory layout, each
            looked at once.
    """
    norms = norms_with_statistics(network)
    momenta = {name: norm.momentum for name, norm in norms.items()}
    found: dict[str, _Moments] = {}

    def look(name: str, norm: _BatchNorm, inputs: tuple[torch.Tensor, ...]) -> None:
        moments = _moments(norm, inputs[0].numel() // inputs[0].shape[1])
        if name in found:
            found[name].add(moments)
        else:
            found[name] = moments

    handles = [
        norm.register_forward_hook(lambda norm, x, _, name=name: look(name, norm, x))
        for name, norm in norms.items()
    ]
    network.eval()
    for norm in norms.values():
        # With momentum 1 a norm keeps the statistics of the last batch and nothing else.
        norm.train().momentum = 1.0
    try:
        for images in batches:
            network(images)
    finally:
        for handle in handles:
            handle.remove()
        for name, norm in norms.items():
            norm.eval().momentum = momenta[name]
    for name, moments in found.items():
        mean, variance = _statistics(norms[name])
        mean.copy_(moments.mean)
        variance.copy_(moments.squares / (moments.count - 1))


def _statistics(norm: _BatchNorm) -> tuple[torch.Tensor, torch.Tensor]:
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    return mean, variance


def _moments(norm: _BatchNorm, count: int) -> _Moments:
    """What a norm of momentum 1 saw in its last batch, of so many values a channel."""
    mean, variance = _statistics(norm)
    return _Moments(count, mean.double(), variance.double() * (count - 1))
