"""A convolution's geometry as torch's operators take it."""

from typing import NamedTuple

from torch import nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd


class Geometry(NamedTuple):
    """Stride, padding and so on, in the order of `torch.ops.aten.convolution`."""

    stride: list[int]
    padding: list[int]
    dilation: list[int]
    transposed: bool
    output_padding: list[int]
    groups: int


def zero_padded(layer: nn.Module) -> bool:
    """Whether a layer is a convolution whose padding is as many zeros at both ends of an axis."""
    return (
        isinstance(layer, _ConvNd)
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
    )


def geometry_of(layer: nn.Module) -> Geometry:
    """The geometry of a `zero_padded` convolution, transposed or not."""
    assert isinstance(layer, _ConvNd)
    assert not isinstance(layer.padding, str)
    return Geometry(
        list(layer.stride),
        list(layer.padding),
        list(layer.dilation),
        isinstance(layer, _ConvTransposeNd),
        list(layer.output_padding),
        layer.groups,
    )


def is_pointwise(layer: nn.Module) -> bool:
    """Whether a convolution mixes channels and nothing else, as a linear layer does."""
    assert isinstance(layer, _ConvNd)
    geometry = geometry_of(layer)
    steps = {*layer.kernel_size, *geometry.stride, layer.groups}
    return steps == {1} and not any(geometry.padding)
