"""The 3D vision transformer: ViT-B/16 (Dosovitskiy et al., ICLR 2021) on cubes of voxels."""

from typing import Self

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
    demand_multiple,
)


class ViTOptions(BackboneOptions):
    """Options of the vision transformer.

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


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
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

    def __init__(self, options: ViTOptions) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(options.width, eps=1e-6)
        self.attn = Attention(options.width, options.heads)
        self.norm2 = nn.LayerNorm(options.width, eps=1e-6)
        self.fc1 = nn.Linear(options.width, options.hidden)
        self.fc2 = nn.Linear(options.hidden, options.width)
        self.drop = nn.Dropout(options.dropout)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """From (batch, tokens, width) to the same."""
        tokens = tokens + self.drop(self.attn(self.norm1(tokens)))
        return tokens + self.drop(self.fc2(F.gelu(self.fc1(self.norm2(tokens)))))


class ViT(Backbone):
    """A 3D vision transformer; its features are the class token after the last norm."""

    def __init__(self, options: ViTOptions, given: InputShape) -> None:
        super().__init__()
        demand_multiple("vit", given.shape, options.patch)
        self.n_features = options.width
        count = 1
        for n in given.shape:
            count *= n // options.patch
        self.patch_embed = nn.Conv3d(
            given.channels, options.width, options.patch, stride=options.patch
        )
        self.cls_token = nn.Parameter(torch.zeros(1, 1, options.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + count, options.width))
        self.drop = nn.Dropout(options.dropout)
        self.blocks = nn.Sequential(*[Block(options) for _ in range(options.depth)])
        self.norm = nn.LayerNorm(options.width, eps=1e-6)
        _initialise(self)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """From (batch, channels, x, y, z) to (batch, n_features)."""
        tokens = self.patch_embed(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], dim=1)
        tokens = self.blocks(self.drop(tokens + self.pos_embed))
        features: torch.Tensor = self.norm(tokens)[:, 0]
        return features


def _initialise(network: ViT) -> None:
    nn.init.trunc_normal_(network.pos_embed, std=0.02)
    nn.init.normal_(network.cls_token, std=1e-6)
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)


BACKBONES.add(
    BackboneEntry(
        name="vit",
        family="vit",
        summary="3D vision transformer ViT-B/16 on cubes of 16 voxels",
        paper="Dosovitskiy et al. 2021, arXiv 2010.11929; in 3D Dhinagar et al. 2023, 2303.08216",
        options=ViTOptions,
        build=ViT,
        published=InputShape(1, (96, 96, 96)),
    )
)
