"""A frozen layer beside a product of two thin matrices: what the low-rank methods share."""

import copy

import torch
from torch import nn

from braintune.adapters.adapter import AdapterLayer
from braintune.adapters.fused import add_product, can_fuse
from braintune.adapters.kernels import bias_of, compute, compute_product, weight_of


class ProductLayer(AdapterLayer):
    """y = base(x) + the layer of the weight s · left · right.

    Subclasses say what the factors are; the product is never built but to merge.

    Attributes:
        base: The frozen layer.
        scale: s.
    """

    base: nn.Module
    scale: float

    def factors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The matrices left, of shape (rows, rank), and right, of shape (rank, columns).

        Rows and columns are those of `braintune.adapters.kernels`.
        """
        raise NotImplementedError

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From the base's input to an output of the base's shape."""
        if self.computes_merged():
            return compute(self.base, x, self.merged_weight())
        if can_fuse(self.base, x) and self.sees_all():
            left, right = self.factors()
            return add_product(self.base, x, self.scale * left, right)
        return torch.add(self.base(x), self.update(x), alpha=self.scale)

    def sees_all(self) -> bool:
        """Whether the product sees the very input that the base sees."""
        return True

    def computes_merged(self) -> bool:
        """Whether nothing trains, so that one kernel does.

        Weights of fewer bits would round the product away.
        """
        return not (torch.is_grad_enabled() or self.training) and (
            weight_of(self.base).dtype is torch.float32
        )

    def update(self, x: torch.Tensor) -> torch.Tensor:
        """What the product adds to the output, before the scale."""
        return compute_product(self.base, x, *self.factors())

    def delta(self) -> torch.Tensor:
        """What the product adds to the weight, in the weight's shape."""
        left, right = self.factors()
        return self.scale * (left @ right).view_as(weight_of(self.base))

    def merged_weight(self) -> torch.Tensor:
        """The frozen weight and the product."""
        return weight_of(self.base) + self.delta()

    @property
    def weight(self) -> torch.Tensor:
        """The weight that the layer computes with."""
        return self.merged_weight()

    def merged(self) -> nn.Module:
        """A layer of the base's type that computes the same."""
        return with_weight(self.base, self.merged_weight())


def with_weight(
    layer: nn.Module, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> nn.Module:
    """A copy of a layer with another weight, and with another bias if one is given."""
    made = copy.deepcopy(layer)
    with torch.no_grad():
        weight_of(made).copy_(weight)
        if bias is not None and bias_of(made) is None:
            made.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
        elif bias is not None:
            made.bias.copy_(bias)  # type: ignore[operator]
    return made
