"""Low-rank adaptation (Hu et al., arXiv 2106.09685), also of convolutions.

A convolution's kernel is flattened to C_out × (C_in · k³) and gets ΔW = (α/r) · B·A, as in the 3D
LoRA of Kao et al. (arXiv 2511.06163). It is computed as a convolution with the r kernels of A, of
the geometry of the frozen one, followed by the 1×1×1 convolution B.
"""

import copy
import math

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveFloat, PositiveInt
from torch import nn

from braintune.adapters.adapter import (
    ADAPTERS,
    AdapterEntry,
    AdapterLayer,
    AdapterOptions,
    freeze,
)
from braintune.adapters.layers import replace_layers

_POINTWISE = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


class LoRAOptions(AdapterOptions):
    """Options of LoRA.

    Attributes:
        rank: Rank r of the update.
        alpha: The update is scaled by α/r; by default α = r.
        dropout: Share of the layer's inputs that the update does not see while training.
        layers: A regular expression for the names of the layers to adapt; by default all.
    """

    rank: PositiveInt = 4
    alpha: PositiveFloat | None = None
    dropout: float = Field(0.0, ge=0, lt=1)
    layers: str | None = None


class LoRALinear(AdapterLayer):
    """A frozen linear layer and a trained update of low rank."""

    def __init__(self, base: nn.Linear, options: LoRAOptions) -> None:
        super().__init__()
        self.base: nn.Linear = base
        weight = base.weight.detach()
        self.lora_a = nn.Parameter(weight.new_empty(options.rank, base.in_features))
        self.lora_b = nn.Parameter(weight.new_zeros(base.out_features, options.rank))
        self.scale = (options.alpha or options.rank) / options.rank
        self.dropout = nn.Dropout(options.dropout)
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From (…, in_features) to (…, out_features)."""
        update = F.linear(F.linear(self.dropout(x), self.lora_a), self.lora_b)
        return torch.add(self.base(x), update, alpha=self.scale)

    @property
    def weight(self) -> torch.Tensor:
        """Of shape (out_features, in_features)."""
        return self.base.weight + self.scale * (self.lora_b @ self.lora_a)

    def merged(self) -> nn.Module:
        """A linear layer that computes the same."""
        return _merged(self.base, self.weight)


class LoRAConv(AdapterLayer):
    """A frozen convolution and a trained update of low rank, of any geometry.

    With groups, the flattened kernel has C_in / groups input channels; every group shares A.
    """

    def __init__(self, base: nn.modules.conv._ConvNd, options: LoRAOptions) -> None:
        super().__init__()
        self.base: nn.modules.conv._ConvNd = base
        weight = base.weight.detach()
        self.lora_a = nn.Parameter(weight.new_empty(options.rank, *weight.shape[1:]))
        self.lora_b = nn.Parameter(weight.new_zeros(base.out_channels, options.rank))
        self.scale = (options.alpha or options.rank) / options.rank
        self.dropout = nn.Dropout(options.dropout)
        self._pointwise = _POINTWISE[len(base.kernel_size)]
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From (batch, C_in, …) to (batch, C_out, …)."""
        dimensions, groups = len(self.base.kernel_size), self.base.groups
        kernels = self.lora_a.repeat(groups, *[1] * (1 + dimensions)) if groups > 1 else self.lora_a
        # The frozen layer's own routine keeps its stride, dilation, padding and padding mode.
        down = self.base._conv_forward(self.dropout(x), kernels, None)
        weight = self.lora_b.reshape(*self.lora_b.shape, *[1] * dimensions)
        update = self._pointwise(down, weight, groups=groups)
        return torch.add(self.base(x), update, alpha=self.scale)

    @property
    def weight(self) -> torch.Tensor:
        """Of shape (C_out, C_in / groups, …)."""
        update = (self.lora_b @ self.lora_a.flatten(1)).view_as(self.base.weight)
        return self.base.weight + self.scale * update

    def merged(self) -> nn.Module:
        """A convolution that computes the same."""
        return _merged(self.base, self.weight)


def _merged(base: nn.Linear | nn.modules.conv._ConvNd, weight: torch.Tensor) -> nn.Module:
    layer = copy.deepcopy(base)
    with torch.no_grad():
        layer.weight.copy_(weight)
    return layer


def _make(layer: nn.Module, options: LoRAOptions) -> AdapterLayer:
    if isinstance(layer, nn.Linear):
        return LoRALinear(layer, options)
    if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return LoRAConv(layer, options)
    msg = f"LoRA can't adapt a {type(layer).__name__}"
    raise TypeError(msg)


def _apply(network: nn.Module, options: LoRAOptions) -> list[str]:
    freeze(network)
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return replace_layers(network, kinds, options.layers, lambda layer: _make(layer, options))


ADAPTERS.add(
    AdapterEntry(
        name="lora",
        summary="a trained update of low rank beside each frozen layer",
        adapts="Linear, Conv1d, Conv2d, Conv3d of any stride, padding, dilation and groups",
        paper="Hu et al. 2021, arXiv 2106.09685; for 3D kernels Kao et al. 2025, 2511.06163",
        options=LoRAOptions,
        apply=_apply,
    )
)
