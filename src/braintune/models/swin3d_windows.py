"""Attention in windows of a grid of tokens, shifted in every second block (arXiv 2106.13230).

Keys of the weights are those of torchvision's ``ShiftedWindowAttention3d``.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

Edges = tuple[int, ...]
WindowOffsets = Literal["published", "true"]


@dataclass(frozen=True)
class WindowPlan:
    """Sizes of one block's attention.

    Attributes:
        width: Length of a token.
        heads: Attention heads.
        window: Tokens along time, height and width that see each other.
        shifted: Whether windows lie half a window off.
        offsets: Which tokens of the whole window those of a window are that the grid cuts down:
            the first in number, as in the ``"published"`` code, by which offsets are wrong where
            height or width are cut; or those in the same places, by which they are ``"true"``.
    """

    width: int
    heads: int
    window: Edges
    shifted: bool
    offsets: WindowOffsets


def pad_to_multiples(tokens: torch.Tensor, of: Edges) -> torch.Tensor:
    """Add zeros at the far ends of (batch, time, height, width, channels).

    Example:
        >>> pad_to_multiples(torch.ones(1, 3, 4, 5, 2), (2, 2, 2)).shape
        torch.Size([1, 4, 4, 6, 2])
    """
    time, height, width = (-n % edge for n, edge in zip(tokens.shape[1:4], of, strict=True))
    return F.pad(tokens, (0, 0, 0, width, 0, height, 0, time))


def into_windows(tokens: torch.Tensor, window: Edges) -> torch.Tensor:
    """From (batch, time, height, width, channels) to (batch, windows, tokens, channels)."""
    for axis, edge in enumerate(window):
        tokens = tokens.unflatten(1 + 2 * axis, (-1, edge))
    return tokens.permute(0, 1, 3, 5, 2, 4, 6, 7).flatten(4, 6).flatten(1, 3)


def out_of_windows(windows: torch.Tensor, window: Edges, shape: Edges) -> torch.Tensor:
    """Undo `into_windows` for a grid of that shape."""
    counts = [n // edge for n, edge in zip(shape, window, strict=True)]
    apart = windows.unflatten(2, window).unflatten(1, counts)
    return apart.permute(0, 1, 4, 2, 5, 3, 6, 7).flatten(5, 6).flatten(3, 4).flatten(1, 2)


def window_places(window: Edges) -> torch.Tensor:
    """A number for each place of a window, whose differences tell all offsets apart.

    They are rows of a table of relative positions, seen from the window's first place.

    Example:
        >>> window_places((1, 2, 2)).tolist()
        [[[0, 1], [3, 4]]]
    """
    steps = ((2 * window[1] - 1) * (2 * window[2] - 1), 2 * window[2] - 1, 1)
    time, height, width = (torch.arange(n) * step for n, step in zip(window, steps, strict=True))
    return time[:, None, None] + height[:, None] + width


def strangers(shape: Edges, window: Edges, shift: Edges, device: torch.device) -> torch.Tensor:
    """Which pairs of tokens share a shifted window but were not neighbours before the shift.

    Args:
        shape: Tokens along each axis, multiples of the window's.
        window: Tokens of a window along each axis.
        shift: How far the grid was rolled along each axis.
        device: Where to make them.

    Returns:
        (windows, tokens, tokens).
    """
    region = torch.zeros((1, *shape, 1), device=device)
    for axis, (n, edge, step) in enumerate(zip(shape, window, shift, strict=True)):
        if step:
            place = torch.arange(n, device=device)
            part = (place >= n - edge).int() + (place >= n - step).int()
            region = 3 * region + part.view([-1 if a == axis + 1 else 1 for a in range(5)])
    regions = into_windows(region, window)[0, :, :, 0]
    return regions[:, :, None] != regions[:, None]


class WindowAttention(nn.Module):
    """Multi-head self-attention among the tokens of each window.

    Args:
        plan: Sizes.
    """

    def __init__(self, plan: WindowPlan) -> None:
        super().__init__()
        self.plan = plan
        self.qkv = nn.Linear(plan.width, 3 * plan.width)
        self.proj = nn.Linear(plan.width, plan.width)
        self.places: torch.Tensor
        self.register_buffer("places", window_places(plan.window), persistent=False)
        offsets = math.prod(2 * edge - 1 for edge in plan.window)
        self.relative_position_bias_table = nn.Parameter(torch.zeros(offsets, plan.heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """From (batch, time, height, width, channels) to the same."""
        shape = tokens.shape[1:4]
        window, shift = self._fit(shape)
        tokens = pad_to_multiples(tokens, window)
        padded = tokens.shape[1:4]
        axes = (1, 2, 3)
        tokens = tokens.roll([-step for step in shift], axes)
        windows = self._attend(into_windows(tokens, window), self.bias(padded, window, shift))
        tokens = out_of_windows(windows, window, padded).roll(shift, axes)
        return tokens[:, : shape[0], : shape[1], : shape[2]]

    def _fit(self, shape: Edges) -> tuple[Edges, Edges]:
        """The window, no larger than the grid, and its shift: none where the grid is one window."""
        window = tuple(min(edge, n) for edge, n in zip(self.plan.window, shape, strict=True))
        shift = tuple(
            edge // 2 if self.plan.shifted and n > edge else 0
            for edge, n in zip(self.plan.window, shape, strict=True)
        )
        return window, shift

    def bias(self, shape: Edges, window: Edges, shift: Edges) -> torch.Tensor:
        """What is added to the attention: (windows or 1, heads, tokens, tokens)."""
        time, height, width = window
        if self.plan.offsets == "published":
            places = self.places.flatten()[: math.prod(window)]
        else:
            places = self.places[:time, :height, :width].flatten()
        rows = places[:, None] - places + self.places[-1, -1, -1]
        bias = self.relative_position_bias_table[rows].permute(2, 0, 1)[None]
        if any(shift):
            apart = strangers(shape, window, shift, bias.device)
            bias = bias.masked_fill(apart[:, None], -math.inf)
        return bias

    def _attend(self, windows: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """From (batch, windows, tokens, channels) to the same."""
        count = windows.shape[1]
        heads = self.plan.heads
        parts = self.qkv(windows).unflatten(-1, (3, heads, -1)).permute(3, 0, 1, 4, 2, 5)
        # Windows are taken for further heads, so that one bias serves all scans of the batch.
        queries, keys, values = parts.flatten(2, 3)
        bias = bias.expand(count, -1, -1, -1).flatten(0, 1)[None].to(queries.dtype)
        mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=bias)
        return self.proj(mixed.unflatten(1, (count, heads)).transpose(2, 3).flatten(3))
