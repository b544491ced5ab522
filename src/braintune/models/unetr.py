"""UNETR: a vision transformer with a convolutional decoder (Hatamizadeh et al., arXiv 2103.10504).

The network is MONAI's and so are the names of its parameters. Its transformer blocks also hold
norms (in older versions whole layers) for an attention to other inputs, which UNETR does not have;
these are left out here.
"""

from typing import Self

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import nn

from braintune.models.backbone import (
    BACKBONES,
    Backbone,
    BackboneEntry,
    BackboneOptions,
    InputShape,
    TokenGrid,
    demand_multiple,
)
from braintune.models.decoder import DecoderBackbone, voxel_head

_PATCH = 16
_DEPTH = 12


class UNETROptions(BackboneOptions):
    """Options of UNETR, whose transformer has 12 blocks on cubes of 16 voxels.

    Attributes:
        width: Length of a token.
        heads: Attention heads.
        hidden: Width of the blocks' perceptrons.
        feature_size: Channels of the decoder's finest level.
        dropout: Share of the transformer's activations dropped.
    """

    width: PositiveInt = 768
    heads: PositiveInt = 12
    hidden: PositiveInt = 3072
    feature_size: PositiveInt = 16
    dropout: float = Field(0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _whole_heads(self) -> Self:
        if self.width % self.heads:
            msg = f"width {self.width} must be a multiple of heads {self.heads}"
            raise ValueError(msg)
        return self


class UNETR(DecoderBackbone):
    """MONAI's UNETR without its last convolution.

    Its features are the average of the last tokens after their norm.

    Args:
        options: Sizes.
        given: The input.
    """

    decoder_parts = (
        *[f"encoder{level}" for level in range(1, 5)],
        *[f"decoder{level}" for level in range(2, 6)],
    )

    def __init__(self, options: UNETROptions, given: InputShape) -> None:
        from monai.networks.nets import unetr

        super().__init__()
        self.n_maps, self.n_features = options.feature_size, options.width
        self.grid = tuple(n // _PATCH for n in given.shape)
        self.token_grids = {"vit.patch_embedding.position_embeddings": TokenGrid(0, self.grid)}
        network = unetr.UNETR(
            in_channels=given.channels,
            out_channels=1,
            img_size=given.shape,
            feature_size=options.feature_size,
            hidden_size=options.width,
            mlp_dim=options.hidden,
            num_heads=options.heads,
            dropout_rate=options.dropout,
        )
        self.vit = network.vit
        self.encoder1 = network.encoder1
        self.encoder2 = network.encoder2
        self.encoder3 = network.encoder3
        self.encoder4 = network.encoder4
        self.decoder5 = network.decoder5
        self.decoder4 = network.decoder4
        self.decoder3 = network.decoder3
        self.decoder2 = network.decoder2
        for block in self.vit.blocks:
            block.cross_attn = block.norm_cross_attn = nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """From (batch, channels, x, y, z) to (batch, n_features)."""
        tokens: torch.Tensor = self.vit(images)[0]
        return tokens.mean(dim=1)

    def maps(self, images: torch.Tensor) -> torch.Tensor:
        """From (batch, channels, x, y, z) to (batch, n_maps, x, y, z)."""
        tokens, hidden = self.vit(images)
        x = self._to_map(tokens)
        x = self.decoder5(x, self.encoder4(self._to_map(hidden[9])))
        x = self.decoder4(x, self.encoder3(self._to_map(hidden[6])))
        x = self.decoder3(x, self.encoder2(self._to_map(hidden[3])))
        maps: torch.Tensor = self.decoder2(x, self.encoder1(images))
        return maps

    def stages(self) -> list[tuple[str, ...]]:
        """The embedding, one a block of the transformer, one a level of the decoder."""
        *blocks, last = [f"vit.blocks.{number}" for number in range(_DEPTH)]
        return [
            ("vit.patch_embedding",),
            *[(block,) for block in blocks],
            (last, "vit.norm"),
            *[(f"encoder{level - 1}", f"decoder{level}") for level in range(5, 1, -1)],
        ]

    def coarser_maps(self) -> list[tuple[str, int]]:
        """The decoder's levels but the last."""
        width = self.n_maps
        return [(f"decoder{level}", width * 2 ** (level - 2)) for level in range(3, 6)]

    def _to_map(self, tokens: torch.Tensor) -> torch.Tensor:
        """From (batch, tokens, width) to (batch, width, x / 16, y / 16, z / 16)."""
        return tokens.transpose(1, 2).unflatten(2, self.grid)


def _build(options: UNETROptions, given: InputShape) -> Backbone:
    demand_multiple("unetr", given.shape, _PATCH)
    return UNETR(options, given)


BACKBONES.add(
    BackboneEntry(
        name="unetr",
        family="unetr",
        summary="vision transformer ViT-B/16 with a convolutional decoder",
        paper="Hatamizadeh et al. 2022, arXiv 2103.10504",
        options=UNETROptions,
        build=_build,
        published=InputShape(1, (96, 96, 96)),
        parameters=92_784_046,
        head=voxel_head(14),
    )
)
