"""Weights of one shape, stacked to a tensor: what the tensor methods have in common.

The tensor methods stack the weights of a transformer's linear layers and change a whole stack by
one t-product (Kilmer and Martin 2011), ΔW = L ∗ R, which is a circular convolution along the stack:

    ΔW_j = Σ_c L_(j−c) · R_c,    L_i of shape (rows, k), R_c of shape (k, columns).

So each layer's own change is a product of two thin matrices, [L_j, L_(j−1), …] and R with its
slices one below the other, and the tensor ΔW is never built.

A stack's numbers live in one `TensorStack`. It is registered once, within the first of its layers;
the others only refer to it. So its parameters have one name, are counted and saved once, and leave
with the layers when they are detached.
"""

from collections.abc import Callable

import torch
from torch import nn

from braintune.adapters.adapter import AdapterLayer
from braintune.adapters.further import freeze_but
from braintune.adapters.kernels import LINEAR, compute, matrix_of, weight_of
from braintune.adapters.product import ProductLayer
from braintune.adapters.targets import (
    KINDS,
    Kind,
    TargetOptions,
    find_layers,
    replace_layers,
)


class StackOptions(TargetOptions):
    """Which layers are stacked.

    Attributes:
        kinds: Kinds of layers; by default the linear ones, as published, and in a network that has
            none its convolutions.
    """


class TensorStack(nn.Module):
    """The numbers of one stack's change.

    Attributes:
        inner: The inner size of a slice's two thin matrices, stack · k.
        scale: By what the t-product is multiplied.
    """

    inner: int
    scale: float

    def factors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """L, of shape (stack, rows, k), and R, of shape (stack, k, columns)."""
        raise NotImplementedError


class StackedLayer(ProductLayer):
    """A frozen layer whose weight is one slice of a stack, or several slices one below the other.

    Args:
        base: The frozen layer.
        stack: What its change is taken from.
        places: Where its slices lie in the stack.
        holds: Whether the stack is registered as a part of this layer.
    """

    def __init__(self, base: nn.Module, stack: TensorStack, places: range, holds: bool) -> None:
        super().__init__()
        self.base = base
        self.scale = stack.scale
        self.places = places
        if holds:
            self.stack = stack
        # A tuple, because modules that are attributes are registered.
        self._shared = (stack,)

    def factors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The layer's own two thin matrices."""
        left, right = self._shared[0].factors()
        return torch.cat([left_of_slice(left, place) for place in self.places]), right.flatten(0, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From the base's input to an output of the base's shape."""
        rows, columns = matrix_of(self.base).shape
        # Long stacks make the matrices less thin; then the changed weight takes fewer operations.
        if self._shared[0].inner * (rows + columns) < rows * columns:
            return super().forward(x)
        return compute(self.base, x, self.weight)


def left_of_slice(left: torch.Tensor, place: int) -> torch.Tensor:
    """The matrix on the left of one slice of a t-product.

    Args:
        left: L, of shape (stack, rows, k).
        place: Which slice, j.

    Returns:
        [L_j, L_(j−1), …], of shape (rows, stack · k).
    """
    return left.flip(0).roll(place + 1, 0).transpose(0, 1).flatten(1)


def find_stacks(layers: dict[str, nn.Module]) -> list[dict[str, nn.Module]]:
    """Group layers into stacks of weights of one shape.

    A linear layer of 3·d outputs and d inputs counts as three slices d × d, queries, keys and
    values, where there are linear layers d × d as well.

    Args:
        layers: Layers by name, in the network's order.

    Returns:
        The layers of each stack.

    Example:
        >>> block = {"qkv": nn.Linear(4, 12), "proj": nn.Linear(4, 4), "fc1": nn.Linear(4, 16)}
        >>> [list(stack) for stack in find_stacks(block)]
        [['qkv', 'proj'], ['fc1']]
    """
    there = {_shape(layer) for layer in layers.values()}
    stacks: dict[tuple[object, ...], dict[str, nn.Module]] = {}
    for name, layer in layers.items():
        kind, dtype, *sizes = _shape(layer)
        square = (kind, dtype, sizes[1], sizes[1])
        fused = kind == "linear" and sizes[0] == 3 * weight_of(layer).shape[1] and square in there
        stacks.setdefault(square if fused else _shape(layer), {})[name] = layer
    return list(stacks.values())


def _shape(layer: nn.Module) -> tuple[object, ...]:
    weight = weight_of(layer)
    kind = next(kind for kind, types in KINDS.items() if isinstance(layer, types))
    return kind, weight.dtype, *weight.shape


def stack_weights(layers: list[nn.Module]) -> torch.Tensor:
    """The weights of a stack, of shape (stack, rows, columns)."""
    matrices = [matrix_of(layer) for layer in layers]
    rows = min(len(matrix) for matrix in matrices)
    return torch.cat([matrix.unflatten(0, (-1, rows)) for matrix in matrices])


def apply_stacked(
    network: nn.Module, options: StackOptions, make: Callable[[torch.Tensor], TensorStack]
) -> list[str]:
    """Freeze a network and let its layers' weights change stack by stack.

    Args:
        network: The module tree.
        options: Which layers.
        make: From a stack's weights, of shape (stack, rows, columns), to what changes them.

    Returns:
        The names of the layers.
    """
    layers = find_layers(network, options, _possible(network, options))
    freeze_but(network, options.also, layers)
    adapted: dict[nn.Module, AdapterLayer] = {}
    for stack in find_stacks(layers):
        adapted |= _adapt_stack(list(stack.values()), make)
    return replace_layers(network, layers, adapted.__getitem__)


def _possible(network: nn.Module, options: StackOptions) -> tuple[Kind, ...]:
    has_linear = any(isinstance(module, LINEAR) for module in network.modules())
    if options.kinds is None and has_linear:
        return ("linear",)
    return "linear", "convolution", "transposed"


def _adapt_stack(
    layers: list[nn.Module], make: Callable[[torch.Tensor], TensorStack]
) -> dict[nn.Module, StackedLayer]:
    weights = stack_weights(layers)
    stack, adapted, place = make(weights), {}, 0
    for layer in layers:
        end = place + len(matrix_of(layer)) // weights.shape[1]
        adapted[layer] = StackedLayer(layer, stack, range(place, end), holds=place == 0)
        place = end
    return adapted
