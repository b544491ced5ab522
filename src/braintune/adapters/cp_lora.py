"""CP-LoRA: updates of kernels as sums of outer products of one vector an axis.

Minoccheri et al., arXiv 2508.01772. The canonical polyadic (CP) form of a 3D convolution's update
is ΔW = (α/r) · Σ_r out_r ⊗ in_r ⊗ k1_r ⊗ k2_r ⊗ k3_r, so that its cost grows with the sum of the
kernel's edges where LoRA's grows with their product. For a linear layer it is LoRA.
"""

import math

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import nn

from braintune.adapters.adapter import ADAPTERS, AdapterEntry
from braintune.adapters.kernels import weight_of
from braintune.adapters.product import ProductLayer
from braintune.adapters.targets import TargetOptions, adapt_kernels


class CPLoRAOptions(TargetOptions):
    """Options of CP-LoRA.

    Attributes:
        rank: How many outer products are summed.
        alpha: The update is scaled by α/r; by default α = r.
    """

    rank: PositiveInt = 4
    alpha: PositiveFloat | None = None


class CPLoRALayer(ProductLayer):
    """A frozen layer and an update in CP form.

    The factors of all axes but the first make the right matrix, r kernels that are outer products
    of vectors; the first axis' factor is the left matrix.

    Args:
        base: The frozen layer.
        options: The method.

    Example:
        >>> layer = CPLoRALayer(nn.Conv3d(8, 16, 3), CPLoRAOptions(rank=2))
        >>> sum(p.numel() for p in layer.adapter_parameters()) == 2 * (16 + 8 + 3 + 3 + 3)
        True
    """

    def __init__(self, base: nn.Module, options: CPLoRAOptions) -> None:
        super().__init__()
        self.base = base
        self.scale = (options.alpha if options.alpha is not None else options.rank) / options.rank
        weight = weight_of(base)
        # One factor of shape (length, rank) for each axis of the weight.
        self.axes = nn.ParameterList(
            nn.Parameter(weight.new_zeros(n, options.rank)) for n in weight.shape
        )
        # Together the axes after the first vary as A of LoRA does: 1 / (3 · columns).
        spread = 3 ** (-1 / (weight.ndim - 1))
        for axis in list(self.axes)[1:]:
            bound = math.sqrt(3 * spread / len(axis))
            nn.init.uniform_(axis, -bound, bound)

    def factors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The first axis' factor, of shape (rows, rank), and the others' outer products."""
        left, second, *others = self.axes
        right = second.T
        for axis in others:
            right = (right[:, :, None] * axis.T[:, None, :]).flatten(1)
        return left, right


def apply_cp_lora(network: nn.Module, options: CPLoRAOptions) -> list[str]:
    """Freeze a network and put updates in CP form beside its layers."""
    return adapt_kernels(network, options, lambda layer: CPLoRALayer(layer, options))


ADAPTERS.add(
    AdapterEntry(
        name="cp-lora",
        summary="updates of kernels as sums of outer products, one vector an axis",
        adapts="Linear, Conv1d to 3d and their transposes, of any stride, padding and groups",
        cost="r · (C_out + C_in / groups + k1 + k2 + k3) for a convolution; LoRA's for Linear",
        paper="Minoccheri et al. 2025, arXiv 2508.01772",
        options=CPLoRAOptions,
        apply=apply_cp_lora,
    )
)
