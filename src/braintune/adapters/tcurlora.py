"""tCURLoRA: a small core between columns and rows of stacked weights trains.

He et al., arXiv 2501.02227. A stack of weights Ŵ stays frozen, and W = Ŵ + C ∗ U ∗ R, where ∗ is
the t-product: C are r columns of the stack and R are r rows of it, both frozen; the core U, r × r
numbers for each weight, trains from zero.
"""

import torch
from pydantic import PositiveInt
from torch import nn

from braintune.adapters.adapter import ADAPTERS, AdapterEntry
from braintune.adapters.stacks import StackOptions, TensorStack, apply_stacked


class TCURLoRAOptions(StackOptions):
    """Options of tCURLoRA.

    Attributes:
        rank: How many columns and rows are taken of each stack.
    """

    rank: PositiveInt = 8


class TCURStack(TensorStack):
    """The change C ∗ U ∗ R of a stack.

    Args:
        weights: Shape (stack, rows, columns).
        rank: How many columns and rows; at most the smaller side counts.
    """

    columns: torch.Tensor
    rows: torch.Tensor

    def __init__(self, weights: torch.Tensor, rank: int) -> None:
        super().__init__()
        rank = min(rank, *weights.shape[1:])
        self.inner = len(weights) * rank
        self.scale = 1.0
        columns, rows = choose_columns_and_rows(weights, rank)
        self.register_buffer("columns", weights.index_select(2, columns))
        self.register_buffer("rows", weights.index_select(1, rows))
        self.core = nn.Parameter(weights.new_zeros(len(weights), rank, rank))

    def factors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """C ∗ U and R."""
        return t_product(self.columns, self.core), self.rows


def choose_columns_and_rows(tensor: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The longest columns of a stack, and its rows that are longest within these columns.

    Lengths are summed over the frequencies.

    Args:
        tensor: Shape (stack, rows, columns).
        rank: How many of each.

    Returns:
        The numbers of the columns and of the rows, the longest first.
    """
    spectrum = torch.fft.fft(tensor.float(), dim=0)
    columns = spectrum.norm(dim=1).sum(dim=0).topk(rank).indices
    within = spectrum.index_select(2, columns)
    return columns, within.norm(dim=2).sum(dim=0).topk(rank).indices


def t_product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """The t-product: matrices are multiplied, and convolved circularly along the stack.

    Args:
        left: Shape (stack, rows, k).
        right: Shape (stack, k, columns).

    Returns:
        Shape (stack, rows, columns).

    Example:
        >>> shift = torch.tensor([0.0, 1.0, 0.0]).view(3, 1, 1)
        >>> t_product(shift, torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1)).flatten()
        tensor([3., 1., 2.])
    """
    # There are no transforms of half precision.
    full = torch.promote_types(left.dtype, torch.float32)
    spectra = torch.fft.rfft(left.to(full), dim=0), torch.fft.rfft(right.to(full), dim=0)
    return torch.fft.irfft(spectra[0] @ spectra[1], n=len(left), dim=0).to(left.dtype)


def apply_tcurlora(network: nn.Module, options: TCURLoRAOptions) -> list[str]:
    """Freeze a network and train cores between columns and rows of its stacked weights."""
    return apply_stacked(network, options, lambda weights: TCURStack(weights, options.rank))


ADAPTERS.add(
    AdapterEntry(
        name="tcurlora",
        summary="small cores between columns and rows of a transformer's stacked weights",
        adapts="Linear layers, stacked by shape; convolutions where there are none, or by 'kinds'",
        cost="n · r² for a stack of n weights: 72 · r² for the three stacks of ViT-B",
        paper="He et al. 2025, arXiv 2501.02227",
        options=TCURLoRAOptions,
        apply=apply_tcurlora,
    )
)
