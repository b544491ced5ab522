"""Sharpness-aware minimisation (Foret et al. 2021, arXiv 2010.01412), around any optimiser."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

# Keeps a gradient of zero from being divided by zero.
_TINY = 1e-12


@contextmanager
def climbed(network: nn.Module, radius: float) -> Iterator[None]:
    """Hold a network's weights where the loss is largest nearby, to first order.

    Within the context, all weights with a gradient lie ``radius`` × gradient / |gradient| away
    (equation 2 of the paper with p = 2), and their gradients are gone: those of a second pass are
    SAM's. Afterwards the weights are what they were, to the bit. The second pass leaves the running
    statistics of batch norms alone: they belong to the weights that are kept.

    With several processes the gradients must be summed up over them before, so that all climb to
    the same place. A gradient that is no number makes the second pass's loss no number.

    Args:
        network: With gradients of the first pass.
        radius: Euclidean length of the climb, over all weights together.

    Example:
        >>> layer = nn.Linear(2, 1, bias=False)
        >>> _ = nn.init.zeros_(layer.weight)
        >>> layer.weight.grad = torch.tensor([[3.0, 4.0]])
        >>> with climbed(layer, 0.1):
        ...     print([[round(w, 3) for w in row] for row in layer.weight.tolist()])
        [[0.06, 0.08]]
        >>> layer.weight.tolist()
        [[0.0, 0.0]]
    """
    moved = [(p, p.grad) for p in network.parameters() if p.grad is not None]
    starts = [p.detach().clone() for p, _ in moved]
    norms = torch.stack([torch.linalg.vector_norm(gradient) for _, gradient in moved])
    scale = radius / (torch.linalg.vector_norm(norms) + _TINY)
    with torch.no_grad():
        for parameter, gradient in moved:
            parameter.add_(gradient * scale)
            parameter.grad = None
    try:
        with _still_statistics(network):
            yield
    finally:
        with torch.no_grad():
            for (parameter, _), start in zip(moved, starts, strict=True):
                parameter.copy_(start)


@contextmanager
def _still_statistics(network: nn.Module) -> Iterator[None]:
    """Let batch norms compute as they do in training, without moving their statistics."""
    norms = [
        module
        for module in network.modules()
        if isinstance(module, nn.modules.batchnorm._NormBase)
        and module.training
        and module.track_running_stats
    ]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
