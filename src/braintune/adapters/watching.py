"""Seeing what goes through the layers of a network: once, without gradients."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from braintune.adapters.adapter import AdapterLayer

# What is done with a layer's name, the layer that counts, its inputs and its output.
Look = Callable[[str, nn.Module, tuple[Any, ...], Any], None]


def watch(network: nn.Module, images: torch.Tensor, look: Look) -> None:
    """Show some images to a network in evaluation mode, and look at each layer that is called.

    An adapted layer that computes with its base's weight and never calls its base is looked at in
    the base's place.

    Args:
        network: On any device; on ``meta`` nothing is computed.
        images: An input, of shape (batch, channels, x, y, z).
        look: Called for each layer without parts, after it.

    Example:
        >>> network = nn.Sequential(nn.Conv3d(1, 2, 3), nn.ReLU())
        >>> watch(network, torch.zeros(1, 1, 4, 4, 4), lambda name, _, x, y: print(name, y.shape))
        0 torch.Size([1, 2, 2, 2, 2])
        1 torch.Size([1, 2, 2, 2, 2])
    """
    called: set[nn.Module] = set()

    def see(name: str, module: nn.Module, given: tuple[Any, ...], output: Any) -> None:
        if not isinstance(module, AdapterLayer):
            called.add(module)
            look(name, module, given, output)
        elif module.base in called:
            called.discard(module.base)
        else:
            look(name, module.base, given, output)

    handles = [
        module.register_forward_hook(
            lambda module, given, output, name=name: see(name, module, given, output)
        )
        for name, module in network.named_modules()
        if isinstance(module, AdapterLayer) or not list(module.children())
    ]
    try:
        with torch.no_grad():
            network.eval()(images)
    finally:
        for handle in handles:
            handle.remove()
