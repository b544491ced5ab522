"""The family of low-rank adaptation: LoRA and how it starts, scales, learns and stretches.

| option | method |
|---|---|
| ``start: zero`` | LoRA, Hu et al., arXiv 2106.09685; of 3D kernels Kao et al., 2511.06163 |
| ``start: principal`` | PiSSA, Meng et al., arXiv 2404.02948 |
| ``start: orthogonal`` | OLoRA, Büyükakyüz, arXiv 2406.01775 |
| ``magnitude: true`` | DoRA, Liu et al., arXiv 2402.09353 |
| ``scaling: rslora`` | rsLoRA, Kalajdzievski, arXiv 2312.03732 |
| ``lr_ratio: 16`` | LoRA+, Hayou et al., arXiv 2402.12354 |

PiSSA and OLoRA train factors of the weight beside what is left of it. Here the weight stays whole,
and the factors' change is added to it, which is the same and loses nothing to rounding: the start
computes exactly what the backbone did, and the backbone is never changed.
"""

import math
from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import nn

from braintune.adapters.kernels import (
    along_channels,
    bias_of,
    channel_norms,
    compute_product,
    matrix_of,
    weight_of,
)
from braintune.adapters.product import ProductLayer
from braintune.adapters.starts import orthogonal_factors, principal_factors
from braintune.adapters.targets import TargetOptions, adapt_kernels

_STARTS = {"principal": principal_factors, "orthogonal": orthogonal_factors}


class LowRankOptions(TargetOptions):
    """Options of the low-rank methods.

    Attributes:
        rank: Rank r of the update.
        alpha: The update is scaled by α/r; by default α = r.
        scaling: ``standard`` scales by α/r, ``rslora`` by α/√r.
        start: What the factors start from: ``zero`` (A at random, B zero), the weight's
            ``principal`` part, or an ``orthogonal`` one.
        magnitude: Whether the length of each output channel's kernel trains apart from its
            direction.
        lr_ratio: How many times faster B learns than A.
        dropout: Share of the layer's inputs that the update does not see while training.
    """

    rank: PositiveInt = 4
    alpha: PositiveFloat | None = None
    scaling: Literal["standard", "rslora"] = "standard"
    start: Literal["zero", "principal", "orthogonal"] = "zero"
    magnitude: bool = False
    lr_ratio: PositiveFloat = 1.0
    dropout: float = Field(0.0, ge=0, lt=1)


class LowRankLayer(ProductLayer):
    """A frozen layer and a trained update of low rank.

    Args:
        base: The frozen layer.
        options: The method.
    """

    def __init__(self, base: nn.Module, options: LowRankOptions) -> None:
        super().__init__()
        self.base = base
        alpha = options.alpha if options.alpha is not None else options.rank
        root = math.sqrt(options.rank) if options.scaling == "rslora" else options.rank
        self.scale = alpha / root
        self.lr_ratio = options.lr_ratio
        self.dropout = nn.Dropout(options.dropout)
        self._start(matrix_of(base), options)
        weight = weight_of(base)
        self.magnitude = nn.Parameter(channel_norms(base, weight)) if options.magnitude else None

    def _start(self, matrix: torch.Tensor, options: LowRankOptions) -> None:
        self.start_a: torch.Tensor | None
        self.start_b: torch.Tensor | None
        if options.start == "zero":
            self.lora_a = nn.Parameter(matrix.new_empty(options.rank, matrix.shape[1]))
            self.lora_b = nn.Parameter(matrix.new_zeros(matrix.shape[0], options.rank))
            nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))
            self.start_a = self.start_b = None
            return
        rank = min(options.rank, *matrix.shape)
        left, right = _STARTS[options.start](matrix, rank)
        root = math.sqrt(self.scale)
        self.lora_a, self.lora_b = nn.Parameter(right / root), nn.Parameter(left / root)
        self.register_buffer("start_a", self.lora_a.detach().clone())
        self.register_buffer("start_b", self.lora_b.detach().clone())

    def factors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """B and A, or, where they did not start from zero, factors of their change.

        B·A − B₀·A₀ = B·(A − A₀) + (B − B₀)·A₀.
        """
        if self.start_a is None or self.start_b is None:
            return self.lora_b, self.lora_a
        left = torch.cat([self.lora_b, self.lora_b - self.start_b], dim=1)
        return left, torch.cat([self.lora_a - self.start_a, self.start_a])

    def update(self, x: torch.Tensor) -> torch.Tensor:
        """What the product adds to the output, before the scale."""
        return compute_product(self.base, self.dropout(x), *self.factors())

    def sees_all(self) -> bool:
        """Whether dropout is idle."""
        return not (self.training and self.dropout.p)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From the base's input to an output of the base's shape."""
        output = super().forward(x)
        if self.magnitude is None or self.computes_merged():
            return output
        ratio, bias = self._ratio(), bias_of(self.base)
        stretched = output * along_channels(self.base, ratio, output)
        if bias is None:
            return stretched
        return stretched + along_channels(self.base, (1 - ratio) * bias, output)

    def merged_weight(self) -> torch.Tensor:
        """The frozen weight, its update, and, if it trains, its magnitude."""
        weight = super().merged_weight()
        if self.magnitude is None:
            return weight
        return weight * spread_over_kernel(self.base, self._ratio(), weight)

    def _ratio(self) -> torch.Tensor:
        """By how much each output channel is stretched; norms get no gradient, as published."""
        assert self.magnitude is not None
        with torch.no_grad():
            norms = channel_norms(self.base, weight_of(self.base) + self.delta())
        return self.magnitude / norms

    def learning_rates(self) -> Mapping[str, float]:
        """B's factor."""
        return {} if self.lr_ratio == 1 else {"lora_b": self.lr_ratio}


def spread_over_kernel(
    layer: nn.Module, values: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """One value an output channel, shaped so that it spreads over a layer's weight."""
    ones = [1] * (weight.ndim - 2)
    if not isinstance(layer, nn.modules.conv._ConvTransposeNd):
        return values.view(-1, 1, *ones)
    rows = values.view(layer.groups, 1, -1).expand(-1, weight.shape[0] // layer.groups, -1)
    return rows.reshape(*weight.shape[:2], *ones)


def apply_low_rank(network: nn.Module, options: LowRankOptions) -> list[str]:
    """Freeze a network and put updates of low rank beside its layers."""
    return adapt_kernels(network, options, lambda layer: LowRankLayer(layer, options))
