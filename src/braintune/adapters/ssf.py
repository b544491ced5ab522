"""A trained scale and shift of what each frozen layer puts out (SSF, arXiv 2210.08823).

The paper starts scales near one and shifts near zero at random; here they start there exactly, so
that the start computes what the backbone did.
"""

import torch
from torch import nn

from braintune.adapters.adapter import (
    ADAPTERS,
    AdapterEntry,
    AdapterLayer,
    adapted_layers,
    norms_of,
)
from braintune.adapters.further import freeze_but
from braintune.adapters.ia3 import IA3Layer
from braintune.adapters.kernels import along_channels, bias_of, weight_of
from braintune.adapters.product import with_weight
from braintune.adapters.targets import (
    ALL_KINDS,
    TargetOptions,
    choose_among,
    find_layers,
    replace_layers,
)


class SSFLayer(IA3Layer):
    """A frozen linear layer or convolution whose output channels are scaled and shifted.

    Args:
        base: The frozen layer.
    """

    def __init__(self, base: nn.Module) -> None:
        super().__init__(base)
        self.shift = nn.Parameter(torch.zeros_like(self.scale))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From the base's input to an output of the base's shape."""
        output = super().forward(x)
        return output + along_channels(self.base, self.shift.to(output.dtype), output)

    @property
    def bias(self) -> torch.Tensor:
        """The frozen bias, scaled and shifted."""
        bias = super().bias
        return self.shift if bias is None else bias + self.shift


class SSFNorm(AdapterLayer):
    """A frozen norm whose output channels are scaled and shifted.

    Args:
        base: The frozen norm, which has a weight.
    """

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base
        self.scale = nn.Parameter(torch.ones_like(weight_of(base)))
        self.shift = nn.Parameter(torch.zeros_like(weight_of(base)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From the base's input to an output of the same shape."""
        output: torch.Tensor = self.base(x)
        return output * self._spread(self.scale, output) + self._spread(self.shift, output)

    def _spread(self, values: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        values = values.to(output.dtype)
        if isinstance(self.base, nn.LayerNorm):
            return values
        return along_channels(self.base, values, output)

    @property
    def weight(self) -> torch.Tensor:
        """The frozen weight, scaled."""
        return weight_of(self.base) * self.scale

    @property
    def bias(self) -> torch.Tensor:
        """The frozen bias, scaled and shifted."""
        bias = bias_of(self.base)
        return self.shift if bias is None else bias * self.scale + self.shift

    def merged(self) -> nn.Module:
        """A norm of the base's type that computes the same."""
        return with_weight(self.base, self.weight, self.bias).requires_grad_(False)


def _norms(network: nn.Module, options: TargetOptions) -> dict[str, nn.Module]:
    """The norms to adapt: those with parameters, unless kinds of layers are asked for."""
    if options.kinds is not None or options.norms == "affine":
        # Norms whose own parameters train need no others to the same effect.
        return {}
    within = tuple(f"{name}." for name in adapted_layers(network))
    there = {
        name: norm
        for name, norm in norms_of(network)
        if norm.weight is not None and not name.startswith(within)
    }
    return choose_among(there, options)


def _apply(network: nn.Module, options: TargetOptions) -> list[str]:
    layers = find_layers(network, options, ALL_KINDS)
    norms = _norms(network, options)
    freeze_but(network, options.also, [*layers, *norms])
    return [*replace_layers(network, layers, SSFLayer), *replace_layers(network, norms, SSFNorm)]


ADAPTERS.add(
    AdapterEntry(
        name="ssf",
        summary="a scale and a shift for each output channel of each frozen layer and norm",
        adapts="Linear, Conv1d to 3d, their transposes, and norms that have parameters",
        cost="2 · C_out",
        paper="Lian et al. 2022, arXiv 2210.08823",
        options=TargetOptions,
        apply=_apply,
    )
)
