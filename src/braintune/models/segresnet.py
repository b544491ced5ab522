"""SegResNet: the encoder and decoder of residual blocks of Myronenko (2018, arXiv 1810.11654).

The network is MONAI's, in the form of its published bundle for brain tumours; the autoencoder that
the paper adds while it trains is left out, as it is there. The names of the parameters are MONAI's,
so weights published for it lack nothing and only bring ``conv_final.2``, its head, too much.
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
    demand_multiple,
)
from braintune.models.decoder import DecoderBackbone, voxel_head


class SegResNetOptions(BackboneOptions):
    """Options of SegResNet.

    Attributes:
        init_filters: Channels of the first level, a multiple of 8; each level has twice as many.
        blocks_down: Residual blocks of the encoder's levels.
        blocks_up: Residual blocks of the decoder's levels, of which there is one less.
        dropout: Share of the first convolution's channels dropped.
    """

    init_filters: PositiveInt = Field(16, multiple_of=8)
    blocks_down: list[PositiveInt] = Field([1, 2, 2, 4], min_length=2)
    blocks_up: list[PositiveInt] = Field([1, 1, 1])
    dropout: float = Field(0.2, ge=0, lt=1)

    @model_validator(mode="after")
    def _levels_match(self) -> Self:
        if len(self.blocks_up) != len(self.blocks_down) - 1:
            msg = f"blocks_up needs {len(self.blocks_down) - 1} levels, one less than blocks_down"
            raise ValueError(msg)
        return self


class SegResNet(DecoderBackbone):
    """MONAI's SegResNet without its last convolution.

    Its features are the average over the coarsest map.

    Args:
        options: Sizes.
        channels: Image channels.
    """

    decoder_parts = ("up_samples", "up_layers", "conv_final")

    def __init__(self, options: SegResNetOptions, channels: int) -> None:
        from monai.networks.nets.segresnet import SegResNet as MonaiSegResNet

        super().__init__()
        self.n_maps = options.init_filters
        self.n_features = options.init_filters * 2 ** (len(options.blocks_down) - 1)
        network = MonaiSegResNet(
            init_filters=options.init_filters,
            in_channels=channels,
            blocks_down=tuple(options.blocks_down),
            blocks_up=tuple(options.blocks_up),
        )
        self.convInit = network.convInit
        self.dropout = nn.Dropout3d(options.dropout)
        self.down_layers = network.down_layers
        self.up_samples = network.up_samples
        self.up_layers = network.up_layers
        self.conv_final = network.conv_final[:-1]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """From (batch, channels, x, y, z) to (batch, n_features)."""
        return self._encode(images)[-1].mean(dim=(2, 3, 4))

    def maps(self, images: torch.Tensor) -> torch.Tensor:
        """From (batch, channels, x, y, z) to (batch, n_maps, x, y, z)."""
        *finer, x = self._encode(images)
        for upsample, level, skip in zip(self.up_samples, self.up_layers, finer[::-1], strict=True):
            x = level(upsample(x) + skip)
        return self.conv_final(x)

    def stages(self) -> list[tuple[str, ...]]:
        """The first convolution, then one a level, down and up; the last norm with the last."""
        n = len(self.down_layers)
        down = [(f"down_layers.{level}",) for level in range(n)]
        *up, last = [(f"up_samples.{level}", f"up_layers.{level}") for level in range(n - 1)]
        return [("convInit",), *down, *up, (*last, "conv_final")]

    def coarser_maps(self) -> list[tuple[str, int]]:
        """The decoder's levels but the last, each with twice the channels of the finer one."""
        last = len(self.up_layers) - 1
        return [
            (f"up_layers.{level}", self.n_maps * 2 ** (last - level))
            for level in range(last - 1, -1, -1)
        ]

    def _encode(self, images: torch.Tensor) -> list[torch.Tensor]:
        """The last map of each level, from fine to coarse."""
        x = self.dropout(self.convInit(images))
        maps = []
        for level in self.down_layers:
            x = level(x)
            maps.append(x)
        return maps


def _build(options: SegResNetOptions, given: InputShape) -> Backbone:
    demand_multiple("segresnet", given.shape, 2 ** (len(options.blocks_down) - 1))
    return SegResNet(options, given.channels)


BACKBONES.add(
    BackboneEntry(
        name="segresnet",
        family="segresnet",
        summary="residual encoder and decoder of the brain tumour challenge's winner of 2018",
        paper="Myronenko 2018, arXiv 1810.11654",
        options=SegResNetOptions,
        build=_build,
        published=InputShape(4, (224, 224, 144)),
        parameters=4_702_227,
        head=voxel_head(3),
    )
)
