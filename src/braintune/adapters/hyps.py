"""Hybrid parallel and serial tuning (HyPS, Cheng et al. 2024, arXiv 2409.00884).

h = W_res·x + U_r S_r V_rᵀ·x + b and y = h + s · Up(ReLU(Down(h))), where U S Vᵀ = W: the principal
factors train, what is left of the weight is frozen. As in `braintune.adapters.low_rank`, the frozen
weight stays whole and the change of the factors' product is added to it, which is the same.

This is what the paper's figure shows. The published code differs in ways that stop its adapters
from training: it freezes the principal part, and it applies the activation to Up's weight, where a
start at zero has no gradient. Its s = 1/d is the default here.
"""

import copy

import torch
from pydantic import PositiveInt
from torch import nn

from braintune.adapters.adapter import ADAPTERS, AdapterEntry
from braintune.adapters.bottleneck import (
    BottleneckOptions,
    BranchedLayer,
    SerialBranch,
    not_linear,
)
from braintune.adapters.low_rank import LowRankLayer, LowRankOptions
from braintune.adapters.product import with_weight
from braintune.adapters.targets import adapt_kernels


class HyPSOptions(BottleneckOptions):
    """Options of HyPS.

    Attributes:
        rank: How many principal factors train.
    """

    rank: PositiveInt = 8


class HyPSLayer(LowRankLayer):
    """A frozen layer whose principal factors train, and a trained branch behind it.

    Args:
        base: The frozen layer.
        options: Sizes.
    """

    def __init__(self, base: nn.Module, options: HyPSOptions) -> None:
        super().__init__(base, LowRankOptions(rank=options.rank, start="principal"))
        self.serial = SerialBranch(base, options)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From the base's input to an output of the base's shape."""
        y: torch.Tensor = self.serial(super().forward(x))
        return y

    @property
    def weight(self) -> torch.Tensor:
        """There is none: the layer is not linear."""
        raise not_linear("weight")

    @property
    def bias(self) -> torch.Tensor | None:
        """There is none: the layer is not linear."""
        raise not_linear("bias")

    def merged(self) -> nn.Module:
        """A plain module of a layer with the factors merged into its weight, and the branch."""
        layer = with_weight(self.base, self.merged_weight())
        return BranchedLayer(layer, None, copy.deepcopy(self.serial))


def _apply(network: nn.Module, options: HyPSOptions) -> list[str]:
    return adapt_kernels(network, options, lambda base: HyPSLayer(base, options))


ADAPTERS.add(
    AdapterEntry(
        name="hyps",
        summary="the weights' principal factors, and a small nonlinear branch behind each layer",
        adapts="Linear as published; Conv1d to 3d and transposed convolutions by extension",
        cost="r · (rows + columns) of the weight as a matrix, and 2 · d · C_out",
        paper="Cheng et al. 2024, arXiv 2409.00884",
        options=HyPSOptions,
        apply=_apply,
    )
)
