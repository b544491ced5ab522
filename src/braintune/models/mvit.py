"""MViTv2-S, a multiscale transformer of videos (Li et al., arXiv 2112.01526).

Tokens get fewer and longer from stage to stage. Keys and shapes of the weights are those of
torchvision's ``mvit_v2_s`` without ``head``, with ``class_token`` for ``pos_encoding.class_token``.
"""

from collections.abc import Iterator
from typing import Self

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import nn

from braintune.models.backbone import BACKBONES, Backbone, BackboneEntry, InputShape
from braintune.models.mvit_attention import AttentionPlan, Grid, MultiscaleAttention, over_grid
from braintune.models.stochastic_depth import StochasticDepth, rising_rates
from braintune.models.video import (
    VideoBackbone,
    VideoTransformerOptions,
    as_video,
    initialise_transformer,
    perceptron,
)

_PATCH_STRIDE = (2, 4, 4)


class MViTOptions(VideoTransformerOptions):
    """Options of MViTv2.

    Attributes:
        width: Length of the first stage's tokens; doubles from stage to stage.
        heads: Attention heads of the first stage; doubles from stage to stage.
        depths: Blocks in each stage.
        drop_path: See `VideoTransformerOptions`.
    """

    width: PositiveInt = 96
    heads: PositiveInt = 1
    depths: tuple[PositiveInt, ...] = Field((1, 2, 11, 2), min_length=1)
    drop_path: float = Field(0.2, ge=0, lt=1)

    @model_validator(mode="after")
    def _whole_heads(self) -> Self:
        if self.width % self.heads:
            msg = f"width {self.width} must be a multiple of heads {self.heads}"
            raise ValueError(msg)
        return self


class MultiscaleBlock(nn.Module):
    """Attention and a perceptron, each after a norm and beside a shortcut.

    Args:
        plan: Sizes.
        dropout: Share of activations dropped in the perceptron.
        drop_path: Share of scans for which a branch is dropped in training.
    """

    def __init__(self, plan: AttentionPlan, dropout: float, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(plan.inputs, eps=1e-6)
        self.attn = MultiscaleAttention(plan)
        self.norm2 = nn.LayerNorm(plan.outputs, eps=1e-6)
        self.mlp = perceptron(plan.outputs, plan.outputs, dropout)
        self.stochastic_depth = StochasticDepth(drop_path)
        self.project: nn.Module | None = None
        if plan.inputs != plan.outputs:
            self.project = nn.Linear(plan.inputs, plan.outputs)
        self.pool_skip: nn.Module | None = None
        if plan.query_stride > 1:
            s = plan.query_stride
            edge, padding = s + 1, (s + 1) // 2
            self.pool_skip = nn.MaxPool3d((1, edge, edge), (1, s, s), (0, padding, padding))

    def forward(self, tokens: torch.Tensor, grid: Grid) -> tuple[torch.Tensor, Grid]:
        """From (batch, 1 + tokens, inputs) to (batch, 1 + fewer, outputs), and their grid."""
        normed = self.norm1(tokens)
        mixed, coarse = self.attn(normed, grid)
        # Where the length changes, the shortcut starts after the norm.
        shortcut = tokens if self.project is None else self.project(normed)
        if self.pool_skip is not None:
            shortcut = over_grid(self.pool_skip, shortcut[:, None], grid)[0][:, 0]
        tokens = shortcut + self.stochastic_depth(mixed)
        return tokens + self.stochastic_depth(self.mlp(self.norm2(tokens))), coarse


class MViT(VideoBackbone):
    """MViTv2; its features are the class token after the last norm.

    Args:
        options: Sizes.
        given: The input, on which the tables of relative positions depend.
    """

    def __init__(self, options: MViTOptions, given: InputShape) -> None:
        super().__init__(options.time_axis)
        self.conv_proj = nn.Conv3d(
            given.channels, options.width, (3, 7, 7), stride=_PATCH_STRIDE, padding=(1, 3, 3)
        )
        self.class_token = nn.Parameter(torch.zeros(options.width))
        video = as_video(given.shape, options.time_axis)
        grid = tuple(-(-n // stride) for n, stride in zip(video, _PATCH_STRIDE, strict=True))
        rates = rising_rates(options.drop_path, sum(options.depths))
        self.blocks = nn.ModuleList(
            MultiscaleBlock(plan, options.dropout, rate)
            for plan, rate in zip(_plans(options, grid), rates, strict=True)
        )
        self.n_features = options.width * 2 ** (len(options.depths) - 1)
        self.norm = nn.LayerNorm(self.n_features, eps=1e-6)
        nn.init.trunc_normal_(self.class_token, std=0.02)
        initialise_transformer(self)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """From (batch, channels, x, y, z) to (batch, n_features)."""
        embedded = self.conv_proj(self.video(images))
        grid: Grid = tuple(embedded.shape[2:])
        tokens = embedded.flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(len(tokens), 1, -1), tokens], dim=1)
        for block in self.blocks:
            tokens, grid = block(tokens, grid)
        features: torch.Tensor = self.norm(tokens[:, 0])
        return features

    def stages(self) -> list[tuple[str, ...]]:
        """The embedding, then one a block; the last norm goes with the last block."""
        *blocks, last = [f"blocks.{number}" for number in range(len(self.blocks))]
        return [("conv_proj", "class_token"), *[(block,) for block in blocks], (last, "norm")]


def _plans(options: MViTOptions, grid: Grid) -> Iterator[AttentionPlan]:
    """Sizes of all blocks. Every stage but the first starts with a block that halves the grid."""
    width = options.width
    for stage, depth in enumerate(options.depths):
        outputs = options.width * 2**stage
        # So that keys and values have about as many tokens in all stages as in the last.
        key_stride = 2 ** (len(options.depths) - 1 - stage)
        for block in range(depth):
            stride = 2 if stage and not block else 1
            heads = options.heads * 2**stage
            yield AttentionPlan(width, outputs, heads, stride, key_stride, grid)
            width = outputs
            grid = (grid[0], -(-grid[1] // stride), -(-grid[2] // stride))


def _build(options: MViTOptions, given: InputShape) -> Backbone:
    return MViT(options, given)


BACKBONES.add(
    BackboneEntry(
        name="mvit-v2-s",
        family="video",
        summary="MViTv2-S, a transformer of videos whose tokens get fewer and longer",
        paper="Li et al. 2022, arXiv 2112.01526",
        options=MViTOptions,
        build=_build,
        published=InputShape(3, (16, 224, 224)),
        parameters=34_230_144,
    )
)
