"""Attention of MViTv2: tokens pooled in space, positions relative to each other (arXiv 2112.01526).

Tokens are a class token, then those of a (time, height, width) grid. Keys of the weights are those
of torchvision's ``MViT``.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

Grid = tuple[int, ...]


@dataclass(frozen=True)
class AttentionPlan:
    """Sizes of one block's attention.

    Attributes:
        inputs: Length of the tokens before it.
        outputs: Length of the tokens after it.
        heads: Attention heads.
        query_stride: How much coarser the queries, and so the tokens after it, are in height and
            width.
        key_stride: The same of keys and values.
        grid: Tokens along time, height and width, before it.
    """

    inputs: int
    outputs: int
    heads: int
    query_stride: int
    key_stride: int
    grid: Grid


class Pooling(nn.Module):
    """A convolution of each channel over the grid, then a norm; class tokens get the norm alone.

    Args:
        width: Length of a head's tokens.
        stride: How much coarser the grid gets in height and width.
    """

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.pool = nn.Conv3d(
            width, width, 3, stride=(1, stride, stride), padding=1, groups=width, bias=False
        )
        self.norm_act = nn.Sequential(nn.LayerNorm(width, eps=1e-6))

    def forward(self, tokens: torch.Tensor, grid: Grid) -> tuple[torch.Tensor, Grid]:
        """From (batch, heads, 1 + tokens, width) to the same with fewer tokens, and their grid."""
        pooled, grid = over_grid(self.pool, tokens, grid)
        return self.norm_act(pooled), grid


def over_grid(pool: nn.Module, tokens: torch.Tensor, grid: Grid) -> tuple[torch.Tensor, Grid]:
    """Pool tokens in space, and pass the class token by.

    Args:
        pool: From (n, width, time, height, width) to a coarser map.
        tokens: (batch, heads, 1 + tokens, width).
        grid: Tokens along each axis.
    """
    in_space = tokens[:, :, 1:].flatten(0, 1).transpose(1, 2).unflatten(2, grid)
    pooled = pool(in_space)
    rest = pooled.flatten(2).transpose(1, 2).unflatten(0, tokens.shape[:2])
    return torch.cat([tokens[:, :, :1], rest], dim=2), tuple(pooled.shape[2:])


def relative_rows(table: torch.Tensor, queries: int, keys: int) -> torch.Tensor:
    """The embedding of each distance between queries and keys along an axis.

    Args:
        table: (distances, width), resized where it is for another number of tokens.
        queries: Queries along the axis.
        keys: Keys along the axis.

    Returns:
        (queries, keys, width).

    Example:
        >>> table = torch.arange(5.0)[:, None]
        >>> relative_rows(table, 3, 3)[..., 0].tolist()
        [[2.0, 1.0, 0.0], [3.0, 2.0, 1.0], [4.0, 3.0, 2.0]]
    """
    distances = 2 * max(queries, keys) - 1
    if len(table) != distances:
        table = F.interpolate(table.T[None], size=distances, mode="linear")[0].T
    # On the finer of the two grids, from the last key on.
    of_query = torch.arange(queries, device=table.device)[:, None] * max(keys / queries, 1.0)
    of_key = (torch.arange(keys, device=table.device) - (keys - 1)) * max(queries / keys, 1.0)
    return table[(of_query - of_key).long()]


class MultiscaleAttention(nn.Module):
    """Multi-head self-attention with pooled queries, keys and values.

    Args:
        plan: Sizes.
    """

    def __init__(self, plan: AttentionPlan) -> None:
        super().__init__()
        self.heads = plan.heads
        width = plan.outputs // plan.heads
        self.qkv = nn.Linear(plan.inputs, 3 * plan.outputs)
        self.project = nn.Sequential(nn.Linear(plan.outputs, plan.outputs))
        self.pool_q = Pooling(width, plan.query_stride)
        self.pool_k = Pooling(width, plan.key_stride)
        self.pool_v = Pooling(width, plan.key_stride)
        # Height and width share the length of the longer, as published.
        finer = min(plan.query_stride, plan.key_stride)
        edge = -(-max(plan.grid[1:]) // finer)
        self.rel_pos_t = nn.Parameter(torch.zeros(2 * plan.grid[0] - 1, width))
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * edge - 1, width))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * edge - 1, width))
        for table in (self.rel_pos_t, self.rel_pos_h, self.rel_pos_w):
            nn.init.trunc_normal_(table, std=0.02)

    def forward(self, tokens: torch.Tensor, grid: Grid) -> tuple[torch.Tensor, Grid]:
        """From (batch, 1 + tokens, inputs) to (batch, 1 + fewer, outputs), and their grid."""
        queries, keys, values = (
            self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        )
        keys, key_grid = self.pool_k(keys, grid)
        values, _ = self.pool_v(values, grid)
        queries, grid = self.pool_q(queries, grid)
        bias = self._relative_bias(queries, grid, key_grid)
        mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=bias)
        # The pooled queries are a shortcut, but not for the class token.
        mixed = torch.cat([mixed[:, :, :1], mixed[:, :, 1:] + queries[:, :, 1:]], dim=2)
        return self.project(mixed.transpose(1, 2).flatten(2)), grid

    def _relative_bias(self, queries: torch.Tensor, grid: Grid, key_grid: Grid) -> torch.Tensor:
        """What positions add to the attention: (batch, heads, 1 + queries, 1 + keys)."""
        tables = (self.rel_pos_t, self.rel_pos_h, self.rel_pos_w)
        rows = [relative_rows(*args) for args in zip(tables, grid, key_grid, strict=True)]
        in_space = queries[:, :, 1:].unflatten(2, grid)
        time = torch.einsum("bnthwc,tkc->bnthwk", in_space, rows[0])
        height = torch.einsum("bnthwc,hkc->bnthwk", in_space, rows[1])
        width = torch.einsum("bnthwc,wkc->bnthwk", in_space, rows[2])
        bias = time[..., :, None, None] + height[..., None, :, None] + width[..., None, None, :]
        # The class token has no position.
        return F.pad(bias.flatten(5).flatten(2, 4), (1, 0, 1, 0)).to(queries.dtype)
