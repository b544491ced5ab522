"""Layers as matrices: one view of linear layers, convolutions and transposed convolutions.

The weight of every such layer, flattened after its first axis, is a matrix. A product of two thin
matrices can stand beside it as two small layers: what is flattened keeps the layer's own geometry,
and what is left is a 1×1×1 convolution.

| layer | weight | rows | columns |
|---|---|---|---|
| linear | (out, in) | out | in |
| convolution | (out, in / groups, k, …) | out | in / groups · k · … |
| transposed convolution | (in, out / groups, k, …) | in | out / groups · k · … |
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

_POINTWISE = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}

LINEAR = (nn.Linear,)
CONVOLUTION = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
# Every layer that has a kernel.
KERNEL_LAYERS: tuple[type[nn.Module], ...] = (*LINEAR, *CONVOLUTION, *TRANSPOSED)


def weight_of(layer: nn.Module) -> torch.Tensor:
    """A layer's weight, without its history of gradients."""
    weight = layer.weight
    assert isinstance(weight, torch.Tensor)
    return weight.detach()


def bias_of(layer: nn.Module) -> torch.Tensor | None:
    """A layer's bias, if it has one."""
    bias = layer.bias
    assert bias is None or isinstance(bias, torch.Tensor)
    return bias


def matrix_of(layer: nn.Module) -> torch.Tensor:
    """A layer's weight as a matrix, of shape (rows, columns)."""
    return weight_of(layer).flatten(1)


def output_channels(layer: nn.Module) -> int:
    """How many channels, or features, a layer puts out."""
    return int(layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels)  # type: ignore[arg-type]


def channel_axis(layer: nn.Module) -> int:
    """The axis of a layer's output that holds its channels."""
    return -1 if isinstance(layer, nn.Linear) else 1


def along_channels(layer: nn.Module, values: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    """One value a channel, shaped so that it spreads over a layer's output."""
    if isinstance(layer, nn.Linear):
        return values
    return values.view(-1, *[1] * (output.ndim - 2))


def channel_norms(layer: nn.Module, weight: torch.Tensor) -> torch.Tensor:
    """The length of the kernel of each output channel, of shape (channels,)."""
    if not isinstance(layer, _ConvTransposeNd):
        return weight.flatten(1).norm(dim=1)
    grouped = weight.unflatten(0, (layer.groups, -1))
    return grouped.movedim(2, 1).flatten(2).norm(dim=2).flatten()


def compute(layer: nn.Module, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """What a layer of the same geometry and bias puts out with another weight."""
    bias = bias_of(layer)
    if isinstance(layer, nn.Linear):
        return F.linear(x, weight, bias)
    if isinstance(layer, _ConvTransposeNd):
        return _transposed(layer, x, weight, bias)
    assert isinstance(layer, _ConvNd)
    # The layer's own routine keeps its stride, dilation, padding and padding mode.
    return layer._conv_forward(x, weight, bias)


def _unchanged(few: torch.Tensor) -> torch.Tensor:
    return few


def compute_product(
    layer: nn.Module,
    x: torch.Tensor,
    left: torch.Tensor,
    right: torch.Tensor,
    between: Callable[[torch.Tensor], torch.Tensor] = _unchanged,
) -> torch.Tensor:
    """What a layer with the weight left · right and no bias puts out, by way of few channels.

    Args:
        layer: Whose geometry counts.
        x: Its input.
        left: Shape (rows, rank).
        right: Shape (rank, columns).
        between: What is done to the few channels, such as an activation.
    """
    if isinstance(layer, nn.Linear):
        return F.linear(between(F.linear(x, right)), left)
    assert isinstance(layer, _ConvNd)
    kernels = right.unflatten(1, layer.weight.shape[1:])
    ones, pointwise = [1] * (kernels.ndim - 2), _POINTWISE[kernels.ndim - 2]
    if layer.groups > 1:
        # Every group shares the factor on the right.
        kernels = kernels.repeat(layer.groups, 1, *ones)
    if isinstance(layer, _ConvTransposeNd):
        thin = left.unflatten(0, (layer.groups, -1)).transpose(1, 2).flatten(0, 1)
        few = pointwise(x, thin.reshape(*thin.shape, *ones), groups=layer.groups)
        return _transposed(layer, between(few), kernels, None)
    few = between(layer._conv_forward(x, kernels, None))
    return pointwise(few, left.reshape(*left.shape, *ones), groups=layer.groups)


def _transposed(
    layer: _ConvTransposeNd, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    assert not isinstance(layer.padding, str)
    return _TRANSPOSED[weight.ndim - 2](
        x,
        weight,
        bias,
        layer.stride,
        layer.padding,
        layer.output_padding,
        layer.groups,
        layer.dilation,
    )
