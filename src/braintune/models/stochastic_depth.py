"""Stochastic depth (Huang et al. 2016, arXiv 1603.09382): scans skip branches in training."""

import re

import torch
from torch import nn

from braintune.errors import InputError

# What libraries call the places for it in their blocks: MONAI, timm and transformers.
_FOREIGN = re.compile(r"drop_path\d*")


class StochasticDepth(nn.Module):
    """Drops a whole branch beside a shortcut, for random scans while training.

    It has no parameters, and does nothing in evaluation.

    Args:
        rate: Share of the scans.

    Example:
        >>> branch = StochasticDepth(0.5).eval()
        >>> branch(torch.ones(2))
        tensor([1., 1.])
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: torch.Tensor) -> torch.Tensor:
        """From (batch, ...) to the same; what is kept grows, so that the mean stays."""
        if not self.training or self.rate == 0:
            return branch
        each_scan = (len(branch), *[1] * (branch.ndim - 1))
        kept = torch.rand(each_scan, device=branch.device) >= self.rate
        return branch * kept / (1 - self.rate)


def rising_rates(last: float, blocks: int) -> list[float]:
    """Rates of stochastic depth, from 0 at the first block.

    Example:
        >>> rising_rates(0.5, 3)
        [0.0, 0.25, 0.5]
    """
    return [last * number / max(1, blocks - 1) for number in range(blocks)]


def set_stochastic_depth(network: nn.Module, last: float) -> int:
    """Let the branches of a network's residual blocks be dropped, in place.

    The rate rises evenly over the blocks, in the order in which the network holds them, from none
    at the first.

    Args:
        network: Any network; blocks are what holds a `StochasticDepth`, or what MONAI, timm or
            transformers use in its place.
        last: Share of the scans that skip a branch of the last block.

    Returns:
        How many blocks there are.

    Raises:
        InputError: If the network has no residual blocks of a known kind.
    """
    _replace_foreign(network)
    blocks = [
        branches
        for module in network.modules()
        if (branches := [m for m in module.children() if isinstance(m, StochasticDepth)])
    ]
    if not blocks:
        raise InputError(
            "train.drop_path drops branches of residual blocks, and this backbone has none that"
            " could be dropped. Leave it out, or take a ResNet or a transformer."
        )
    for branches, rate in zip(blocks, rising_rates(last, len(blocks)), strict=True):
        for branch in branches:
            branch.rate = rate
    return len(blocks)


def _replace_foreign(network: nn.Module) -> None:
    """Put our own layer in the place of other libraries', which may be an identity."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if _FOREIGN.fullmatch(name) and not isinstance(child, StochasticDepth):
                setattr(module, name, StochasticDepth(0.0).train(child.training))
