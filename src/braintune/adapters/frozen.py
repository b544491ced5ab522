"""Frozen layers that cost what they must: nothing is kept for gradients that nobody asks for.

torch keeps the input of every convolution and of every norm for the gradient of its weight, even if
the weight is frozen. The gradient of the input needs the weight alone. So the layers here keep no
activation. Under autocast, torch also casts frozen weights anew at every step; here they are cast
once.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.conv import _ConvNd

from braintune.adapters.geometry import Geometry, geometry_of, zero_padded


def lighten(network: nn.Module) -> list[str]:
    """Let the frozen convolutions and batch norms of a network keep no activations, in place.

    What the network computes, its gradients, its parameters and their names stay as they are. A
    layer that is unfrozen later, or a norm in training mode, computes as torch's does.

    Args:
        network: Adapted, in the number format and memory layout that it will train in.

    Returns:
        The names of the layers that are lighter now.

    Example:
        >>> network = nn.Sequential(nn.Conv3d(1, 4, 3), nn.BatchNorm3d(4)).requires_grad_(False)
        >>> lighten(network)
        ['0', '1']
    """
    found = []
    for name, module in network.named_modules():
        lighter = _LIGHTER.get(type(module))
        if lighter is not None and not any(p.requires_grad for p in module.parameters()):
            module.__class__ = lighter
            found.append(name)
    return found


class _LightConvolution(_ConvNd):
    """A convolution that keeps no input for its backward pass while its weight is frozen."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As torch's convolution of the same geometry."""
        if not (x.requires_grad and zero_padded(self) and is_frozen(self)):
            return super().forward(x)
        x = as_computed(x)
        weight, bias = computing_tensors(self, x.dtype)
        y: torch.Tensor = _FrozenConvolution.apply(x, weight, bias, geometry_of(self))
        return y


class LightConv1d(_LightConvolution, nn.Conv1d):
    """A light `torch.nn.Conv1d`."""


class LightConv2d(_LightConvolution, nn.Conv2d):
    """A light `torch.nn.Conv2d`."""


class LightConv3d(_LightConvolution, nn.Conv3d):
    """A light `torch.nn.Conv3d`."""


class _LightBatchNorm(nn.modules.batchnorm._BatchNorm):
    """A batch norm that keeps no input for its backward pass while it is frozen."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As torch's batch norm."""
        rests = not self.training and self.running_mean is not None and is_frozen(self)
        if not (x.requires_grad and rests):
            return super().forward(x)
        y: torch.Tensor = _FrozenNorm.apply(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.eps
        )
        return y


class LightBatchNorm1d(_LightBatchNorm, nn.BatchNorm1d):
    """A light `torch.nn.BatchNorm1d`."""


class LightBatchNorm2d(_LightBatchNorm, nn.BatchNorm2d):
    """A light `torch.nn.BatchNorm2d`."""


class LightBatchNorm3d(_LightBatchNorm, nn.BatchNorm3d):
    """A light `torch.nn.BatchNorm3d`."""


_LIGHTER: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv1d: LightConv1d,
    nn.Conv2d: LightConv2d,
    nn.Conv3d: LightConv3d,
    nn.BatchNorm1d: LightBatchNorm1d,
    nn.BatchNorm2d: LightBatchNorm2d,
    nn.BatchNorm3d: LightBatchNorm3d,
}


def is_frozen(layer: nn.Module) -> bool:
    """Whether none of a layer's own parameters trains."""
    return not any(p.requires_grad for p in layer.parameters(recurse=False))


def as_computed(x: torch.Tensor) -> torch.Tensor:
    """A layer's input in the number format in which autocast would have the layer compute."""
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x


def computing_tensors(
    layer: nn.Module, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """A frozen layer's weight and bias in a number format; a light layer's are cast only once."""
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, torch.Tensor)
    assert bias is None or isinstance(bias, torch.Tensor)
    if weight.dtype == dtype:
        return weight, bias
    if not isinstance(layer, _LightConvolution):
        return weight.to(dtype), None if bias is None else bias.to(dtype)
    key = (dtype, weight.data_ptr(), weight._version, bias is not None and bias._version)
    if getattr(layer, "_cast_of", None) != key:
        layer._cast_of = key  # type: ignore[assignment]
        layer._cast = (weight.to(dtype), None if bias is None else bias.to(dtype))  # type: ignore[assignment]
    return layer._cast  # type: ignore[return-value]


class _FrozenConvolution(torch.autograd.Function):
    """A convolution that keeps its weight, and of its input nothing but the shape."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        geometry: Geometry,
    ) -> torch.Tensor:
        ctx.save_for_backward(weight)
        ctx.shape, ctx.strides, ctx.geometry = x.shape, x.stride(), geometry
        with torch.autocast(x.device.type, enabled=False):
            return convolve(x, weight, bias, geometry)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        (weight,) = ctx.saved_tensors
        # Memory that nobody writes or reads: only its shape and layout count.
        x = gradient.new_empty_strided(ctx.shape, ctx.strides)
        with torch.autocast(gradient.device.type, enabled=False):
            return input_gradient(gradient, x, weight, ctx.geometry), None, None, None


def convolve(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, geometry: Geometry
) -> torch.Tensor:
    """A convolution by the algorithm that torch takes for training, though nothing is kept.

    On processors the one that it takes for inference is up to three times slower where kernels are
    larger than the images (oneDNN of torch 2.13).
    """
    with torch.enable_grad():
        seen = x.detach().requires_grad_()
        return torch.ops.aten.convolution(seen, weight, bias, *geometry).detach()


def input_gradient(
    gradient: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, geometry: Geometry
) -> torch.Tensor:
    """The gradient of a convolution's input x, whose values do not count for it."""
    mask = [True, False, False]
    return torch.ops.aten.convolution_backward(gradient, x, weight, None, *geometry, mask)[0]


class _FrozenNorm(torch.autograd.Function):
    """A batch norm on frozen statistics: one multiplication and one addition a channel."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        mean: torch.Tensor,
        variance: torch.Tensor,
        weight: torch.Tensor | None,
        bias: torch.Tensor | None,
        eps: float,
    ) -> torch.Tensor:
        ctx.save_for_backward(mean, variance, weight)
        ctx.eps = eps
        return F.batch_norm(x, mean, variance, weight, bias, eps=eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        mean, variance, weight = ctx.saved_tensors
        # The same norm without its constants multiplies the gradient, and rounds it only once.
        stretched = F.batch_norm(gradient, torch.zeros_like(mean), variance, weight, eps=ctx.eps)
        return stretched, None, None, None, None, None
