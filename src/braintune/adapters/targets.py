"""Which layers a method adapts: by kind, by name, by depth; and putting others in their place."""

import re
from collections.abc import Callable
from typing import Literal, Self

from pydantic import model_validator
from torch import nn

from braintune.adapters.adapter import AdapterLayer, AdapterOptions
from braintune.adapters.further import freeze_but
from braintune.adapters.kernels import CONVOLUTION, LINEAR, TRANSPOSED
from braintune.errors import InputError, listing

Kind = Literal["linear", "convolution", "transposed"]
KINDS: dict[Kind, tuple[type[nn.Module], ...]] = {
    "linear": LINEAR,
    "convolution": CONVOLUTION,
    "transposed": TRANSPOSED,
}
ALL_KINDS: tuple[Kind, ...] = tuple(KINDS)


class TargetOptions(AdapterOptions):
    """Which layers are adapted; by default all that the method can adapt.

    Attributes:
        layers: A regular expression that must be found in a layer's name.
        kinds: Kinds of layers.
        depth: The part of the layers that is taken, in their order from input to output:
            ``[0.5, 1]`` is the second half.
        also: A regular expression for the names of further parameters that train, such as those of
            a decoder. Tensors of adapted layers never do.
    """

    layers: str | None = None
    kinds: list[Kind] | None = None
    depth: tuple[float, float] = (0.0, 1.0)
    also: str | None = None

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        first, last = self.depth
        if not 0 <= first < last <= 1:
            msg = f"depth {list(self.depth)} must rise within 0 and 1"
            raise ValueError(msg)
        for name, pattern in (("layers", self.layers), ("also", self.also)):
            try:
                re.compile(pattern or "")
            except re.error as error:
                msg = f"{name} {pattern!r} is no regular expression: {error}"
                raise ValueError(msg) from None
        return self


def find_layers(
    network: nn.Module, options: TargetOptions, possible: tuple[Kind, ...]
) -> dict[str, nn.Module]:
    """The layers that a method adapts, in their order.

    Layers of adapters that are there already are left alone.

    Args:
        network: The module tree.
        options: Which layers.
        possible: The kinds that the method can adapt.

    Returns:
        The layers by name.

    Raises:
        InputError: If no layer matches; the message shows the names that there are.
    """
    kinds = [kind for kind in options.kinds or possible if kind in possible]
    types = tuple(layer_type for kind in kinds for layer_type in KINDS[kind])
    there = _layers_of(network, types)
    chosen = choose_among(there, options)
    if not chosen:
        wanted = ", ".join(kinds) or f"any of {', '.join(possible)}"
        names = listing(there) or f"no layer of the kinds {wanted}"
        msg = (
            f"The adapter matches no layer (layers {options.layers!r}, kinds {wanted}, depth"
            f" {list(options.depth)}). There are: {names}."
        )
        raise InputError(msg)
    return chosen


def choose_among(there: dict[str, nn.Module], options: TargetOptions) -> dict[str, nn.Module]:
    """Of some layers in their order, those of the right depth and name."""
    first, last = options.depth
    return {
        name: layer
        for number, (name, layer) in enumerate(there.items())
        if first <= (number + 0.5) / len(there) < last
        and (options.layers is None or re.search(options.layers, name))
    }


def _layers_of(network: nn.Module, types: tuple[type[nn.Module], ...]) -> dict[str, nn.Module]:
    """Layers of exactly these types or their subclasses, but none within an adapted layer."""
    found: dict[str, nn.Module] = {}

    def look(prefix: str, module: nn.Module) -> None:
        for name, child in module.named_children():
            path = f"{prefix}.{name}" if prefix else name
            if isinstance(child, AdapterLayer):
                continue
            if isinstance(child, types):
                found[path] = child
            else:
                look(path, child)

    look("", network)
    return found


def adapt_kernels(
    network: nn.Module, options: TargetOptions, make: Callable[[nn.Module], AdapterLayer]
) -> list[str]:
    """Freeze a network and put adapted layers in the place of those with a kernel.

    Returns:
        Their names.

    Raises:
        InputError: If no layer matches.
    """
    layers = find_layers(network, options, ALL_KINDS)
    freeze_but(network, options.also, layers)
    return replace_layers(network, layers, make)


def replace_layers(
    network: nn.Module,
    layers: dict[str, nn.Module],
    make: Callable[[nn.Module], AdapterLayer],
) -> list[str]:
    """Put an adapted layer in the place of each of some layers.

    Returns:
        Their names.
    """
    for name, layer in layers.items():
        parent, _, attribute = name.rpartition(".")
        setattr(network.get_submodule(parent), attribute, make(layer))
    return list(layers)
