"""A frozen kernel and a product of thin matrices beside it, computed and differentiated as one.

y = W∗x + b + L·(R∗x), where ∗ is the layer's own operation. As separate modules, this reads and
writes the output three times, the input's gradient twice, and keeps what it could do without. Here
the product is added to the output in place; its gradients are taken for its few rows alone; and the
input's gradient comes from the kernels' sum, or, where there are fewer voxels than weights, from
each of them. Nothing is kept but the input, which R's gradient needs, and the few channels R∗x.
"""

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

from braintune.adapters.frozen import (
    as_computed,
    computing_tensors,
    convolve,
    input_gradient,
    is_frozen,
)
from braintune.adapters.geometry import Geometry, geometry_of, is_pointwise, zero_padded

# Pointwise kernels of up to so many channels are computed as matrices.
_FEW = 32
_LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}


def can_fuse(layer: nn.Module, x: torch.Tensor) -> bool:
    """Whether `add_product` can compute a layer.

    It can if the layer is frozen, and is linear, or a convolution on an input whose channels lie
    next to each other in memory.
    """
    if not is_frozen(layer):
        return False
    if isinstance(layer, nn.Linear):
        return True
    if not zero_padded(layer) or layer.groups != 1 or layer.transposed:
        return False
    return x.ndim in _LAYOUTS and x.is_contiguous(memory_format=_LAYOUTS[x.ndim])


def add_product(
    layer: nn.Module, x: torch.Tensor, left: torch.Tensor, right: torch.Tensor
) -> torch.Tensor:
    """What a frozen layer puts out with left · right added to its weight.

    Args:
        layer: The layer; see `can_fuse`.
        x: Its input.
        left: Shape (rows, rank).
        right: Shape (rank, columns).
    """
    x = as_computed(x)
    weight, bias = computing_tensors(layer, x.dtype)
    operation = _Linear() if isinstance(layer, nn.Linear) else _convolution(layer)
    y: torch.Tensor = _KernelAndProduct.apply(x, weight, bias, left, right, operation)
    return y


class _KernelAndProduct(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        left: torch.Tensor,
        right: torch.Tensor,
        operation: "_Operation",
    ) -> torch.Tensor:
        with torch.autocast(x.device.type, enabled=False):
            few = operation.rows(operation.apply(x, _kernels(right, weight)))
            y = operation.apply(x, weight, bias)
            # Added in place, for the rows are a view of the output.
            operation.rows(y).addmm_(few, left.t().to(x.dtype))
        ctx.save_for_backward(x, weight, left, right, few)
        ctx.operation = operation
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_y: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, left, right, few = ctx.saved_tensors
        operation: _Operation = ctx.operation
        with torch.autocast(x.device.type, enabled=False):
            to_y = operation.arranged(to_y)
            rows = operation.rows(to_y)
            to_few = operation.like(to_y, F.linear(rows, left.t().to(x.dtype).contiguous()))
            to_left = (few.t() @ rows).t()
            to_right = operation.weight_gradient(to_few, x, _kernels(right, weight))
            to_x = None
            if ctx.needs_input_grad[0] and to_y.numel() > weight.numel():
                to_x = operation.input_gradient(to_y, x, _sum(weight, left, right))
            elif ctx.needs_input_grad[0]:
                to_x = operation.input_gradient(to_y, x, weight)
                to_x += operation.input_gradient(to_few, x, _kernels(right, weight))
        return to_x, None, None, to_left.to(left.dtype), to_right.to(right.dtype), None


def _kernels(right: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The factor on the right as kernels of the weight's size, number format and layout."""
    kernels = right.to(weight.dtype).view(-1, *weight.shape[1:])
    layout = _LAYOUTS.get(weight.ndim, torch.contiguous_format)
    return kernels.contiguous(memory_format=layout)


def _sum(weight: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """The weight and left · right, computed in the memory layout of weights with channels last."""
    last = weight.movedim(1, -1)
    thin = right.view(-1, *weight.shape[1:]).movedim(1, -1).flatten(1)
    total = torch.addmm(last.flatten(1), left.to(weight.dtype), thin.to(weight.dtype))
    return total.view(last.shape).movedim(-1, 1)


class _Operation(Protocol):
    """What a kind of layer does with a kernel, of any number of output channels."""

    def rows(self, tensor: torch.Tensor) -> torch.Tensor:
        """A view of shape (places, channels) on a tensor that is `arranged`."""

    def like(self, tensor: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """The reverse of `rows`, for another number of channels at a tensor's places."""

    def arranged(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor with its channels next to each other in memory."""

    def apply(
        self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The output."""

    def input_gradient(
        self, to_y: torch.Tensor, x: torch.Tensor, weight: torch.Tensor
    ) -> torch.Tensor:
        """The gradient of x from that of the output."""

    def weight_gradient(
        self, to_y: torch.Tensor, x: torch.Tensor, weight: torch.Tensor
    ) -> torch.Tensor:
        """The gradient of the kernel from that of the output, of shape (rows, columns)."""


class _Linear:
    def rows(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.view(-1, tensor.shape[-1])

    def like(self, tensor: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return rows.view(*tensor.shape[:-1], -1)

    def arranged(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.contiguous()

    def apply(
        self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        return F.linear(x, weight, bias)

    def input_gradient(
        self, to_y: torch.Tensor, _x: torch.Tensor, weight: torch.Tensor
    ) -> torch.Tensor:
        return to_y @ weight

    def weight_gradient(
        self, to_y: torch.Tensor, x: torch.Tensor, _weight: torch.Tensor
    ) -> torch.Tensor:
        return self.rows(to_y).t() @ x.reshape(-1, x.shape[-1])


class _Convolution:
    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry

    def rows(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.movedim(1, -1).view(-1, tensor.shape[1])

    def like(self, tensor: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return rows.view(tensor.shape[0], *tensor.shape[2:], -1).movedim(-1, 1)

    def arranged(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.contiguous(memory_format=_LAYOUTS[tensor.ndim])

    def apply(
        self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        # Whatever layout torch chose, the rows must be a view.
        return self.arranged(convolve(x, weight, bias, self._geometry))

    def input_gradient(
        self, to_y: torch.Tensor, x: torch.Tensor, weight: torch.Tensor
    ) -> torch.Tensor:
        return input_gradient(to_y, x, weight, self._geometry)

    def weight_gradient(
        self, to_y: torch.Tensor, x: torch.Tensor, weight: torch.Tensor
    ) -> torch.Tensor:
        mask = [False, True, False]
        return torch.ops.aten.convolution_backward(to_y, x, weight, None, *self._geometry, mask)[
            1
        ].flatten(1)


class _Pointwise(_Convolution):
    """Kernels of few channels are faster as matrices."""

    def apply(
        self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        if len(weight) > _FEW:
            return super().apply(x, weight, bias)
        return self.like(x, F.linear(self.rows(x), weight.flatten(1), bias))

    def weight_gradient(
        self, to_y: torch.Tensor, x: torch.Tensor, _weight: torch.Tensor
    ) -> torch.Tensor:
        return self.rows(to_y).t() @ self.rows(x)


def _convolution(layer: nn.Module) -> _Convolution:
    kind = _Pointwise if is_pointwise(layer) else _Convolution
    return kind(geometry_of(layer))
