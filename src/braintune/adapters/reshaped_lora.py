"""LoRA in the layout of loralib's convolutions: part of the kernel counts to the rows.

Hu et al., arXiv 2106.09685, published code only for 1D and 2D. The weight (C_out, C_in, k1, k2, k3)
is reshaped to (C_out·k1) × (C_in·k2·k3), and ΔW = (α/r)·B·A in that layout. In 2D that is
(C_out·k) × (C_in·k), number for number the layout of loralib's Conv2d, whose r gives rank r·k here.

loralib takes (C_out·k) × (C_in·k) for every convolution. It holds C_out·C_in·k² numbers, while a 3D
kernel has C_out·C_in·k³ and a 1D one C_out·C_in·k, so that loralib's Conv1d and Conv3d can't be
viewed as a kernel. Here the first edge of the kernel always goes to the rows and the others to the
columns, which fits kernels of any shape; linear layers have no edge, and it is plain LoRA.

Unlike in the default layout, the product is no chain of two small convolutions. The layer computes
one convolution with the changed kernel.
"""

import math

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import nn

from braintune.adapters.adapter import ADAPTERS, AdapterEntry, AdapterLayer
from braintune.adapters.kernels import compute, weight_of
from braintune.adapters.product import with_weight
from braintune.adapters.targets import TargetOptions, adapt_kernels


class ReshapedLoRAOptions(TargetOptions):
    """Options of LoRA in loralib's layout.

    Attributes:
        rank: Rank r of the update in that layout; loralib's r is r·k here.
        alpha: The update is scaled by α/r; by default α = r.
    """

    rank: PositiveInt = 4
    alpha: PositiveFloat | None = None


class ReshapedLoRALayer(AdapterLayer):
    """A frozen layer whose weight, reshaped, has an update of low rank.

    Args:
        base: The frozen layer.
        options: The method.

    Example:
        >>> layer = ReshapedLoRALayer(nn.Conv3d(8, 16, 3), ReshapedLoRAOptions(rank=2))
        >>> layer.lora_b.shape, layer.lora_a.shape
        (torch.Size([48, 2]), torch.Size([2, 72]))
    """

    def __init__(self, base: nn.Module, options: ReshapedLoRAOptions) -> None:
        super().__init__()
        self.base = base
        self.scale = (options.alpha if options.alpha is not None else options.rank) / options.rank
        weight = weight_of(base)
        rows = math.prod((weight.shape[0], *weight.shape[2:3]))
        self.lora_a = nn.Parameter(weight.new_empty(options.rank, weight.numel() // rows))
        self.lora_b = nn.Parameter(weight.new_zeros(rows, options.rank))
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From the base's input to an output of the base's shape."""
        return compute(self.base, x, self.weight)

    @property
    def weight(self) -> torch.Tensor:
        """The frozen weight and its update."""
        weight = weight_of(self.base)
        return weight + self.scale * (self.lora_b @ self.lora_a).view_as(weight)

    def merged(self) -> nn.Module:
        """A layer of the base's type that computes the same."""
        return with_weight(self.base, self.weight)


def apply_reshaped_lora(network: nn.Module, options: ReshapedLoRAOptions) -> list[str]:
    """Freeze a network and give its reshaped weights updates of low rank."""
    return adapt_kernels(network, options, lambda layer: ReshapedLoRALayer(layer, options))


ADAPTERS.add(
    AdapterEntry(
        name="lora-reshaped",
        summary="LoRA in loralib's layout of convolutions, extended to 3D",
        adapts="Linear, Conv1d to 3d and their transposes, of any stride, padding and groups",
        cost="r · (C_out · k1 + C_in / groups · k2 · k3) for a convolution; LoRA's for Linear",
        paper="Hu et al. 2021, arXiv 2106.09685",
        options=ReshapedLoRAOptions,
        apply=apply_reshaped_lora,
    )
)
