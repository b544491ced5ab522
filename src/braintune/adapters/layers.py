"""Finding layers in a module tree and putting others in their place."""

import re
from collections.abc import Callable

from torch import nn

from braintune.adapters.adapter import AdapterLayer
from braintune.errors import InputError, listing


def replace_layers(
    network: nn.Module,
    kinds: tuple[type[nn.Module], ...],
    pattern: str | None,
    make: Callable[[nn.Module], AdapterLayer],
) -> list[str]:
    """Put an adapted layer in the place of every matching one.

    Args:
        network: The module tree, changed in place.
        kinds: The types of layer that match.
        pattern: A regular expression that must be found in the layer's name, or None for all.
        make: Makes the adapted layer from the one that it replaces.

    Returns:
        The names of the layers that were replaced.

    Raises:
        InputError: If no layer matches; the message shows the names that there are.
    """
    candidates = [name for name, module in network.named_modules() if isinstance(module, kinds)]
    names = [name for name in candidates if _matches(pattern, name)]
    if not names or names == [""]:
        kind = ", ".join(kind.__name__ for kind in kinds)
        there = listing(candidates) or f"no layer of the types {kind}"
        raise InputError(f"The adapter matches no layer (pattern {pattern!r}). There are: {there}.")
    for name in names:
        parent, _, attribute = name.rpartition(".")
        layer = network.get_submodule(name)
        setattr(network.get_submodule(parent), attribute, make(layer))
    return names


def _matches(pattern: str | None, name: str) -> bool:
    if pattern is None:
        return True
    try:
        return re.search(pattern, name) is not None
    except re.error as error:
        raise InputError(f"adapter.layers {pattern!r} is no regular expression: {error}.") from None
