"""Small nonlinear branches beside a frozen layer or behind it, through few channels.

Every branch is s · Up(ReLU(Down(·))) without biases, after Houlsby et al., arXiv 1902.00751. Up
starts at zero, so that the start is the backbone's, and Down at random (Kaiming), so that Up has a
gradient from the first step and Down from the second. The activation is on the hidden channels.

Hidden channels start in pairs of opposite weights, as in Balduzzi et al., arXiv 1702.08591. One of
a pair is active whatever the input, so no branch starts out dead; with few channels at random, and
few voxels, whole branches would.
"""

import copy
import math

import torch
import torch.nn.functional as F
from pydantic import PositiveFloat, PositiveInt
from torch import nn

from braintune.adapters.adapter import AdapterLayer
from braintune.adapters.kernels import (
    TRANSPOSED,
    compute_product,
    matrix_of,
    output_channels,
    weight_of,
)
from braintune.adapters.targets import TargetOptions
from braintune.errors import InputError

BOTTLENECK_ADAPTS = "Linear, Conv1d to 3d and their transposes, with an activation between"


class BottleneckOptions(TargetOptions):
    """Options of the methods with a bottleneck.

    Attributes:
        dim: Hidden channels d of each branch; in the branch beside a grouped convolution, of
            each group.
        scale: Factor s of what a branch adds; by default 1/d.
    """

    dim: PositiveInt = 8
    scale: PositiveFloat | None = None

    @property
    def factor(self) -> float:
        """s, from the options or their default."""
        return 1 / self.dim if self.scale is None else self.scale


class ParallelBranch(nn.Module):
    """From a layer's input to what is added to its output.

    Down is of the layer's own geometry and Up pointwise; beside a transposed convolution, whose
    output is the larger, Down is pointwise and Up of the layer's geometry.

    Args:
        layer: The layer.
        options: Sizes.
    """

    def __init__(self, layer: nn.Module, options: BottleneckOptions) -> None:
        super().__init__()
        self.scale = options.factor
        self.transposed = isinstance(layer, TRANSPOSED)
        matrix = matrix_of(layer)
        rows, columns = matrix.shape
        if self.transposed:
            down, up = (rows, options.dim), (options.dim, columns)
            inputs = rows // int(layer.groups)  # type: ignore[arg-type]
        else:
            down, up = (options.dim, columns), (rows, options.dim)
            inputs = columns
        self.down = nn.Parameter(matrix.new_empty(down))
        self.up = nn.Parameter(matrix.new_zeros(up))
        _start_in_pairs(self.down, axis=int(self.transposed), inputs=inputs)

    def forward(self, layer: nn.Module, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        """Add the branch to the output h of the layer on x."""
        left, right = (self.down, self.up) if self.transposed else (self.up, self.down)
        return torch.add(h, compute_product(layer, x, left, right, F.relu), alpha=self.scale)


class SerialBranch(nn.Module):
    """On a layer's output: Down and Up are pointwise on its channels.

    Args:
        layer: The layer.
        options: Sizes.
    """

    def __init__(self, layer: nn.Module, options: BottleneckOptions) -> None:
        super().__init__()
        self.scale = options.factor
        width = output_channels(layer)
        self.down = _pointwise(layer, width, options.dim)
        self.up = _pointwise(layer, options.dim, width)
        _start_in_pairs(weight_of(self.down), axis=0, inputs=width)
        nn.init.zeros_(weight_of(self.up))

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        """From the layer's output to an output of the same shape."""
        return torch.add(h, self.up(F.relu(self.down(h))), alpha=self.scale)


@torch.no_grad()
def _start_in_pairs(down: torch.Tensor, axis: int, inputs: int) -> None:
    """Fill Down at random within Kaiming's bound for a ReLU, half of it the other's negative.

    Args:
        down: The weight.
        axis: Its axis of the hidden channels.
        inputs: Inputs of one hidden channel.
    """
    bound, channels = math.sqrt(6 / inputs), down.shape[axis]
    nn.init.uniform_(down, -bound, bound)
    pairs = channels // 2
    down.narrow(axis, channels - pairs, pairs).copy_(-down.narrow(axis, 0, pairs))


def _pointwise(layer: nn.Module, inputs: int, outputs: int) -> nn.Module:
    """A layer without bias that mixes the channels of another layer's output."""
    weight = weight_of(layer)
    if isinstance(layer, nn.Linear):
        return nn.Linear(inputs, outputs, bias=False, device=weight.device, dtype=weight.dtype)
    convolution = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[weight.ndim - 2]
    return convolution(inputs, outputs, 1, bias=False, device=weight.device, dtype=weight.dtype)


class BranchedLayer(nn.Module):
    """An ordinary layer with its branches: what is left of an adapted one after merging.

    Args:
        layer: The layer.
        parallel: The branch beside it.
        serial: The branch behind both.
    """

    def __init__(
        self, layer: nn.Module, parallel: ParallelBranch | None, serial: SerialBranch | None
    ) -> None:
        super().__init__()
        self.layer, self.parallel, self.serial = layer, parallel, serial

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From the layer's input to an output of the layer's shape."""
        return _through(self.layer, self.parallel, self.serial, x)


class BottleneckLayer(AdapterLayer):
    """A frozen layer with trained branches.

    Args:
        base: The frozen layer.
        parallel: The branch beside it.
        serial: The branch behind both.
    """

    def __init__(
        self, base: nn.Module, parallel: ParallelBranch | None, serial: SerialBranch | None
    ) -> None:
        super().__init__()
        self.base, self.parallel, self.serial = base, parallel, serial

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From the base's input to an output of the base's shape."""
        return _through(self.base, self.parallel, self.serial, x)

    @property
    def weight(self) -> torch.Tensor:
        """There is none: the layer is not linear."""
        raise not_linear("weight")

    @property
    def bias(self) -> torch.Tensor | None:
        """There is none: the layer is not linear."""
        raise not_linear("bias")

    def merged(self) -> nn.Module:
        """A plain module that computes the same."""
        parts = (self.base, self.parallel, self.serial)
        return BranchedLayer(*copy.deepcopy(parts))


def _through(
    layer: nn.Module,
    parallel: ParallelBranch | None,
    serial: SerialBranch | None,
    x: torch.Tensor,
) -> torch.Tensor:
    h: torch.Tensor = layer(x)
    if parallel is not None:
        h = parallel(layer, x, h)
    return h if serial is None else serial(h)


def not_linear(what: str) -> InputError:
    """The error of a network that computes with a layer's tensors and so would skip its branch."""
    return InputError(
        f"The network reads the {what} of an adapted layer itself, and a layer with a nonlinear"
        " branch has none. Choose other layers with 'layers', or a linear adapter such as 'lora'."
    )
