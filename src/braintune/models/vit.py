"""3D vision transformers: ViT-B/16 (Dosovitskiy et al., ICLR 2021) on cubes of voxels, and kin.

The parts are shared by ViT-B/16, the Neuroimage Transformer, BrainIAC and VideoMAE, which differ in
what `Plan` holds.
"""

import math
from dataclasses import dataclass
from typing import Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt, model_validator
from torch import nn

from braintune.models.backbone import (
    BACKBONES,
    Backbone,
    BackboneEntry,
    BackboneOptions,
    InputShape,
    Step,
    TokenGrid,
    demand_multiple,
)
from braintune.models.stochastic_depth import StochasticDepth


class ViTOptions(BackboneOptions):
    """Options of a vision transformer.

    Attributes:
        patch: Edge of a patch, in voxels.
        width: Length of a token.
        depth: Transformer blocks.
        heads: Attention heads.
        hidden: Width of the blocks' perceptrons.
        dropout: Share of activations dropped after embedding and in each block.
    """

    patch: PositiveInt = 16
    width: PositiveInt = 768
    depth: PositiveInt = 12
    heads: PositiveInt = 12
    hidden: PositiveInt = 3072
    dropout: float = Field(0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _whole_heads(self) -> Self:
        if self.width % self.heads:
            msg = f"width {self.width} must be a multiple of heads {self.heads}"
            raise ValueError(msg)
        return self


@dataclass(frozen=True)
class Plan:
    """What sets the vision transformers apart, beside their sizes.

    Attributes:
        class_token: Whether a token without a place is added before the patches'.
        feature: What is taken as the features: the ``"first"`` token after the last norm, or the
            norm of the ``"mean"`` of the patches' tokens.
        qkv_bias: Whether queries, keys and values have a bias.
        position_std: Spread of the position embeddings at the start.
        token_std: Spread of the class token at the start.
        eps: What the norms add to the variance.
    """

    class_token: bool = True
    feature: Literal["first", "mean"] = "first"
    qkv_bias: bool = True
    position_std: float = 0.02
    token_std: float = 1e-6
    eps: float = 1e-6


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, width: int, heads: int, qkv_bias: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=qkv_bias)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """From (batch, tokens, width) to the same."""
        queries, keys, values = (
            self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        )
        mixed = F.scaled_dot_product_attention(queries, keys, values)
        projected: torch.Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return projected


class Block(nn.Module):
    """Attention and a perceptron, each after a norm and beside a shortcut."""

    def __init__(self, options: ViTOptions, plan: Plan) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(options.width, eps=plan.eps)
        self.attn = Attention(options.width, options.heads, plan.qkv_bias)
        self.norm2 = nn.LayerNorm(options.width, eps=plan.eps)
        self.fc1 = nn.Linear(options.width, options.hidden)
        self.fc2 = nn.Linear(options.hidden, options.width)
        self.drop = nn.Dropout(options.dropout)
        self.stochastic_depth = StochasticDepth(0.0)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """From (batch, tokens, width) to the same."""
        tokens = tokens + self.stochastic_depth(self.drop(self.attn(self.norm1(tokens))))
        hidden = self.drop(F.gelu(self.fc1(self.norm2(tokens))))
        return tokens + self.stochastic_depth(self.drop(self.fc2(hidden)))


class ViT(Backbone):
    """A 3D vision transformer.

    Args:
        options: Sizes.
        given: The input.
        plan: What else sets it apart.
    """

    def __init__(self, options: ViTOptions, given: InputShape, plan: Plan | None = None) -> None:
        super().__init__()
        self.plan = plan or Plan()
        self.n_features = options.width
        grid = tuple(n // options.patch for n in given.shape)
        extra = int(self.plan.class_token)
        self.token_grids = {"pos_embed": TokenGrid(extra, grid)}
        self.patch_embed = nn.Conv3d(
            given.channels, options.width, options.patch, stride=options.patch
        )
        if self.plan.class_token:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, options.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, extra + math.prod(grid), options.width))
        self.drop = nn.Dropout(options.dropout)
        self.blocks = nn.Sequential(*[Block(options, self.plan) for _ in range(options.depth)])
        self.norm = nn.LayerNorm(options.width, eps=self.plan.eps)
        self._initialise()

    def steps(self) -> list[Step]:
        """The embedding, then one a block; the last norm goes with the last block."""
        *blocks, last = self.blocks
        return [self._embed, *blocks, lambda tokens: self._feature(last(tokens))]

    def _embed(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.patch_embed(images).flatten(2).transpose(1, 2)
        if self.plan.class_token:
            tokens = torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], dim=1)
        embedded: torch.Tensor = self.drop(tokens + self.pos_embed)
        return embedded

    def _feature(self, tokens: torch.Tensor) -> torch.Tensor:
        if self.plan.feature == "mean":
            patches = tokens[:, int(self.plan.class_token) :]
            features: torch.Tensor = self.norm(patches.mean(dim=1))
        else:
            features = self.norm(tokens[:, 0])
        return features

    def stages(self) -> list[tuple[str, ...]]:
        """The embedding, then one a block; the last norm goes with the last block."""
        *blocks, last = [f"blocks.{number}" for number in range(len(self.blocks))]
        return [
            ("patch_embed", "pos_embed", "cls_token"),
            *[(block,) for block in blocks],
            (last, "norm"),
        ]

    def _initialise(self) -> None:
        nn.init.normal_(self.pos_embed, std=self.plan.position_std)
        if self.plan.class_token:
            nn.init.normal_(self.cls_token, std=self.plan.token_std)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


def _build(options: ViTOptions, given: InputShape) -> Backbone:
    demand_multiple("vit", given.shape, options.patch)
    return ViT(options, given)


BACKBONES.add(
    BackboneEntry(
        name="vit",
        family="vit",
        summary="3D vision transformer ViT-B/16 on cubes of 16 voxels",
        paper="Dosovitskiy et al. 2021, arXiv 2010.11929; in 3D Dhinagar et al. 2023, 2303.08216",
        options=ViTOptions,
        build=_build,
        published=InputShape(1, (96, 96, 96)),
        parameters=88_369_920,
    )
)
