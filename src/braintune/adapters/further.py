"""Parameters beside the adapted layers that train too, such as a decoder beside its encoder."""

import re
from collections.abc import Collection

from torch import nn

from braintune.adapters.adapter import adapted_layers, freeze
from braintune.errors import InputError, listing


def further_parameters(
    network: nn.Module, pattern: str | None, adapted: Collection[str]
) -> list[nn.Parameter]:
    """The parameters that train beside the adapters; to be asked before layers are replaced.

    Args:
        network: The module tree.
        pattern: A regular expression that must be found in a parameter's name.
        adapted: Names of the layers that are about to be adapted, whose tensors stay as they are.

    Returns:
        The parameters; none without a pattern.

    Raises:
        InputError: If a pattern matches nothing; the message shows the names that there are.

    Example:
        >>> network = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
        >>> [parameter.numel() for parameter in further_parameters(network, "weight", ["0"])]
        [2]
    """
    if pattern is None:
        return []
    frozen = [*adapted, *(f"{name}.base" for name in adapted_layers(network))]
    there = {
        name: parameter
        for name, parameter in network.named_parameters()
        if not any(name.startswith(f"{layer}.") for layer in frozen)
    }
    found = [parameter for name, parameter in there.items() if re.search(pattern, name)]
    if not found:
        names = listing(there) or "none"
        msg = (
            f"'also' {pattern!r} matches no parameter outside of the adapted layers."
            f" There are: {names}."
        )
        raise InputError(msg)
    return found


def freeze_but(network: nn.Module, pattern: str | None, adapted: Collection[str]) -> None:
    """Freeze a network that is about to be adapted, but for what trains beside the adapters.

    Raises:
        InputError: As `further_parameters`; nothing is frozen then.
    """
    further = further_parameters(network, pattern, adapted)
    freeze(network)
    for parameter in further:
        parameter.requires_grad_(True)
