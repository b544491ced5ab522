"""LoRA-PT: the principal part of stacked weights trains, by the t-SVD of each stack.

He et al., arXiv 2407.11292. A stack of weights is taken to the frequency domain along the stack;
there every slice has a singular value decomposition, and its first r singular values and vectors
train while what is left of the slice is frozen.

- A stack is real, so that half of the slices are the complex conjugates of the others. What trains
  are the vectors' tensors brought back from the frequencies, which are real and hold just what all
  slices need: no number is idle, and there are no complex parameters. The transform keeps lengths,
  so that an optimiser's step means the same as in the frequency domain.
- As in `braintune.adapters.low_rank` the weights stay whole, and the factors' change is added.
"""

import math

import torch
from pydantic import PositiveInt
from torch import nn

from braintune.adapters.adapter import ADAPTERS, AdapterEntry
from braintune.adapters.stacks import StackOptions, TensorStack, apply_stacked


class LoRAPTOptions(StackOptions):
    """Options of LoRA-PT.

    Attributes:
        rank: How many singular values and vectors of each frequency train.
    """

    rank: PositiveInt = 1


class TSVDStack(TensorStack):
    """The change of the principal part U ∗ S ∗ Vᵀ of a stack.

    Args:
        weights: Shape (stack, rows, columns).
        rank: How many singular values of each frequency; at most the smaller side counts.
    """

    u: torch.Tensor
    s: torch.Tensor
    v: torch.Tensor
    start_u: torch.Tensor
    start_s: torch.Tensor
    start_v: torch.Tensor

    def __init__(self, weights: torch.Tensor, rank: int) -> None:
        super().__init__()
        for name, factor in zip("usv", t_svd(weights, rank), strict=True):
            factor = factor.to(weights.dtype)
            setattr(self, name, nn.Parameter(factor))
            self.register_buffer(f"start_{name}", factor.clone())
        self.inner = 2 * len(weights) * self.u.shape[2]
        # A convolution of tensors whose transforms keep lengths is √stack times too long.
        self.scale = 1 / math.sqrt(len(weights))

    def factors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """L and R of the change.

        With P = U ∗ S it is P ∗ Vᵀ − P₀ ∗ V₀ᵀ = P ∗ (V − V₀)ᵀ + (P − P₀) ∗ V₀ᵀ.
        """
        left, start = scale_tubes(self.u, self.s), scale_tubes(self.start_u, self.start_s)
        right = torch.cat([self.v - self.start_v, self.start_v], dim=1)
        return torch.cat([left, left - start], dim=2), right


def t_svd(tensor: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The principal part of a real stack's t-SVD.

    By the eigenvectors of the smaller of M·Mᴴ and Mᴴ·M of each frequency's matrix M, all in the
    transform that keeps lengths.

    Args:
        tensor: Shape (stack, rows, columns).
        rank: How many singular values of each frequency.

    Returns:
        U brought back from the frequencies, of shape (stack, rows, rank); the singular values, of
        shape (stack // 2 + 1, rank), as the other frequencies are mirrored; and Vᴴ brought back, of
        shape (stack, rank, columns).
    """
    stack, rows, columns = tensor.shape
    rank = min(rank, rows, columns)
    spectrum = torch.fft.rfft(tensor.float(), dim=0, norm="ortho")
    wide = spectrum if rows <= columns else spectrum.mH
    _, vectors = torch.linalg.eigh(wide @ wide.mH)
    vectors = vectors[..., -rank:].flip(-1)
    # Eigenvectors have no phase of their own; the largest entry is made real and positive, so that
    # every machine starts alike and the vectors of real matrices are real.
    largest = vectors.gather(-2, vectors.abs().argmax(dim=-2, keepdim=True))
    vectors = vectors * torch.sgn(largest).conj()
    rest = vectors.mH @ wide
    values = rest.norm(dim=-1).clamp_min(1e-12)
    rest = rest / values[..., None]
    left, right = (vectors, rest) if rows <= columns else (rest.mH, vectors.mH)
    u, v = (torch.fft.irfft(part, n=stack, dim=0, norm="ortho") for part in (left, right))
    return u, values, v


def scale_tubes(tensor: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Multiply the columns of each frequency's matrix by values, which is U ∗ S.

    Args:
        tensor: Shape (stack, rows, rank).
        values: Shape (stack // 2 + 1, rank).
    """
    # There are no transforms of half precision.
    full = torch.promote_types(tensor.dtype, torch.float32)
    spectrum = torch.fft.rfft(tensor.to(full), dim=0) * values.to(full)[:, None]
    return torch.fft.irfft(spectrum, n=len(tensor), dim=0).to(tensor.dtype)


def apply_lora_pt(network: nn.Module, options: LoRAPTOptions) -> list[str]:
    """Freeze a network and let the principal part of its stacked weights train."""
    return apply_stacked(network, options, lambda weights: TSVDStack(weights, options.rank))


ADAPTERS.add(
    AdapterEntry(
        name="lora-pt",
        summary="the principal part of a transformer's stacked weights, by t-SVD",
        adapts="Linear layers, stacked by shape; convolutions where there are none, or by 'kinds'",
        cost="r · (n · (rows + columns) + n // 2 + 1) for a stack of n weights",
        paper="He et al. 2024, arXiv 2407.11292",
        options=LoRAPTOptions,
        apply=apply_lora_pt,
    )
)
