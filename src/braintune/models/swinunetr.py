"""Swin UNETR: windows of attention with a convolutional decoder (Hatamizadeh et al. 2022).

The parts are MONAI's and so are the names of the parameters: weights published for MONAI's network
fit but for ``out``, its head.
"""

from functools import partial
from typing import Self

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt, model_validator
from torch import nn

from braintune.errors import InputError
from braintune.models.backbone import (
    BACKBONES,
    Backbone,
    BackboneEntry,
    BackboneOptions,
    InputShape,
    demand_multiple,
    shape_remedy,
)
from braintune.models.decoder import DecoderBackbone, voxel_head

_STRIDE = 32
_WINDOW = (7, 7, 7)
Four = tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt]


class SwinUNETROptions(BackboneOptions):
    """Options of Swin UNETR.

    Attributes:
        feature_size: Channels of the first stage and of the maps; MONAI takes multiples of 12 only.
        depths: Transformer blocks of the four stages.
        heads: Attention heads of the four stages.
        dropout: Share of activations dropped after embedding and in each block.
        attention_dropout: Share of attention weights dropped.
        path_dropout: Share of scans for which the last block is skipped; less for earlier blocks.
        checkpointing: Whether to compute activations twice rather than to keep them: less memory,
            more time.
    """

    feature_size: PositiveInt = 48
    depths: Four = (2, 2, 2, 2)
    heads: Four = (3, 6, 12, 24)
    dropout: float = Field(0.0, ge=0, lt=1)
    attention_dropout: float = Field(0.0, ge=0, lt=1)
    path_dropout: float = Field(0.0, ge=0, lt=1)
    checkpointing: bool = False

    @model_validator(mode="after")
    def _whole_heads(self) -> Self:
        for number, heads in enumerate(self.heads):
            width = self.feature_size * 2**number
            if width % heads:
                msg = f"stage {number + 1}: width {width} must be a multiple of heads {heads}"
                raise ValueError(msg)
        return self


class SwinEncoder(nn.Module):
    """A Swin transformer of four stages, each of which ends by halving the resolution.

    MONAI's own can't be built on the meta device, so this one is of the same parts.

    Args:
        options: Sizes.
        channels: Image channels.
    """

    def __init__(self, options: SwinUNETROptions, channels: int) -> None:
        from monai.networks.blocks.patchembedding import PatchEmbed

        super().__init__()
        # MONAI too passes None for "no norm" and classes for modules, against its annotations.
        self.patch_embed = PatchEmbed(2, channels, options.feature_size, None)  # type: ignore[arg-type]
        self.pos_drop = nn.Dropout(options.dropout)
        for number in range(4):
            self.add_module(f"layers{number + 1}", nn.ModuleList([_stage(options, number)]))

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """From (batch, channels, x, y, z) to five maps, by 2, 4, 8, 16 and 32 coarser."""
        maps = [self.pos_drop(self.patch_embed(images))]
        for number in range(1, 5):
            stage = self.get_submodule(f"layers{number}.0")
            maps.append(stage(maps[-1]))
        return maps


def _stage(options: SwinUNETROptions, number: int) -> nn.Module:
    from monai.networks.nets import swin_unetr

    before, after = sum(options.depths[:number]), sum(options.depths[: number + 1])
    last = max(1, sum(options.depths) - 1)
    stage: nn.Module = swin_unetr.BasicLayer(
        dim=options.feature_size * 2**number,
        depth=options.depths[number],
        num_heads=options.heads[number],
        window_size=_WINDOW,
        drop_path=[options.path_dropout * block / last for block in range(before, after)],
        qkv_bias=True,
        drop=options.dropout,
        attn_drop=options.attention_dropout,
        downsample=swin_unetr.PatchMerging,  # type: ignore[arg-type]
        use_checkpoint=options.checkpointing,
    )
    return stage


class SwinUNETR(DecoderBackbone):
    """MONAI's Swin UNETR without its last convolution.

    Its features are the average over the coarsest map, after the residual block on it.

    Args:
        options: Sizes.
        channels: Image channels.
    """

    decoder_parts = (
        *[f"encoder{level}" for level in range(1, 5)],
        *[f"decoder{level}" for level in range(1, 6)],
    )

    def __init__(self, options: SwinUNETROptions, channels: int) -> None:
        from monai.networks.blocks.unetr_block import UnetrBasicBlock, UnetrUpBlock

        super().__init__()
        width = options.feature_size
        self.n_maps, self.n_features = width, 16 * width
        residual = partial(
            UnetrBasicBlock, 3, kernel_size=3, stride=1, norm_name="instance", res_block=True
        )
        up = partial(
            UnetrUpBlock,
            3,
            kernel_size=3,
            upsample_kernel_size=2,
            norm_name="instance",
            res_block=True,
        )
        self.swinViT = SwinEncoder(options, channels)
        self.encoder1 = residual(channels, width)
        self.encoder2 = residual(width, width)
        self.encoder3 = residual(2 * width, 2 * width)
        self.encoder4 = residual(4 * width, 4 * width)
        self.encoder10 = residual(16 * width, 16 * width)
        self.decoder5 = up(16 * width, 8 * width)
        self.decoder4 = up(8 * width, 4 * width)
        self.decoder3 = up(4 * width, 2 * width)
        self.decoder2 = up(2 * width, width)
        self.decoder1 = up(width, width)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """From (batch, channels, x, y, z) to (batch, n_features)."""
        coarsest: torch.Tensor = self.encoder10(_normed(self.swinViT(images)[-1]))
        return coarsest.mean(dim=(2, 3, 4))

    def maps(self, images: torch.Tensor) -> torch.Tensor:
        """From (batch, channels, x, y, z) to (batch, n_maps, x, y, z)."""
        by_2, by_4, by_8, by_16, by_32 = [_normed(x) for x in self.swinViT(images)]
        x = self.decoder5(self.encoder10(by_32), by_16)
        x = self.decoder4(x, self.encoder4(by_8))
        x = self.decoder3(x, self.encoder3(by_4))
        x = self.decoder2(x, self.encoder2(by_2))
        maps: torch.Tensor = self.decoder1(x, self.encoder1(images))
        return maps

    def stages(self) -> list[tuple[str, ...]]:
        """The embedding, one a transformer block, the coarsest map, one a level of the decoder."""
        blocks: list[tuple[str, ...]] = []
        for number in range(1, 5):
            stage = f"swinViT.layers{number}.0"
            depth = len(list(self.get_submodule(f"{stage}.blocks").children()))
            *first, last = [f"{stage}.blocks.{block}" for block in range(depth)]
            blocks += [*[(block,) for block in first], (last, f"{stage}.downsample")]
        decoder = [(f"encoder{level}", f"decoder{level}") for level in range(5, 0, -1)]
        return [("swinViT.patch_embed",), *blocks, ("encoder10",), *decoder]

    def coarser_maps(self) -> list[tuple[str, int]]:
        """The decoder's levels but the last."""
        width = self.n_maps
        return [(f"decoder{level}", width * 2 ** (level - 2)) for level in range(2, 6)]


def _normed(x: torch.Tensor) -> torch.Tensor:
    """A map with mean zero and spread one over the channels of each voxel."""
    return F.layer_norm(x.movedim(1, -1), (x.shape[1],)).movedim(-1, 1)


def _build(options: SwinUNETROptions, given: InputShape) -> Backbone:
    demand_multiple("swinunetr", given.shape, _STRIDE)
    if max(given.shape) == _STRIDE:
        # The norm of the coarsest map would be over one voxel, which is always zero.
        msg = f"swinunetr needs at least {2 * _STRIDE} voxels along one axis."
        raise InputError(f"{msg} {shape_remedy([2 * _STRIDE] * 3)}")
    return SwinUNETR(options, given.channels)


BACKBONES.add(
    BackboneEntry(
        name="swinunetr",
        family="swin",
        summary="shifted windows of attention with a convolutional decoder",
        paper="Hatamizadeh et al. 2022, arXiv 2201.01266",
        options=SwinUNETROptions,
        build=_build,
        published=InputShape(1, (96, 96, 96)),
        parameters=62_186_708,
        head=voxel_head(2),
    )
)
