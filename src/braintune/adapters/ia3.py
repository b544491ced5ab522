"""(IA)³: a trained factor for each channel that a frozen layer puts out (arXiv 2205.05638).

The paper scales keys, values and the hidden activations of perceptrons; here each adapted layer's
output is scaled, bias included, and `layers` chooses which.
"""

import torch
from torch import nn

from braintune.adapters.adapter import ADAPTERS, AdapterEntry, AdapterLayer
from braintune.adapters.kernels import along_channels, bias_of, output_channels, weight_of
from braintune.adapters.low_rank import spread_over_kernel
from braintune.adapters.product import with_weight
from braintune.adapters.targets import TargetOptions, adapt_kernels


class IA3Layer(AdapterLayer):
    """A frozen layer whose output channels are scaled.

    Args:
        base: The frozen layer.
    """

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base
        self.scale = nn.Parameter(weight_of(base).new_ones(output_channels(base)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From the base's input to an output of the base's shape."""
        output: torch.Tensor = self.base(x)
        # Under autocast the output is of lower precision than the parameter, and stays so.
        return output * along_channels(self.base, self.scale.to(output.dtype), output)

    @property
    def weight(self) -> torch.Tensor:
        """The frozen weight, scaled."""
        weight = weight_of(self.base)
        return weight * spread_over_kernel(self.base, self.scale, weight)

    @property
    def bias(self) -> torch.Tensor | None:
        """The frozen bias, scaled."""
        bias = bias_of(self.base)
        return None if bias is None else bias * self.scale

    def merged(self) -> nn.Module:
        """A layer of the base's type that computes the same."""
        return with_weight(self.base, self.weight, self.bias).requires_grad_(False)


def _apply(network: nn.Module, options: TargetOptions) -> list[str]:
    return adapt_kernels(network, options, IA3Layer)


ADAPTERS.add(
    AdapterEntry(
        name="ia3",
        summary="a factor for each output channel of each frozen layer",
        adapts="Linear, Conv1d to 3d and their transposes, of any stride, padding and groups",
        cost="C_out",
        paper="Liu et al. 2022, arXiv 2205.05638",
        options=TargetOptions,
        apply=_apply,
    )
)
