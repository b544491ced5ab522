"""The 3D U-Net (Çiçek et al., MICCAI 2016, arXiv 1606.06650).

The published network convolves without padding, so its output is smaller than its input. Here
convolutions are padded, and the maps are as fine as the images.

The paper counts 19,069,955 parameters, which is one number a channel beside the kernels, though it
norms with a learned scale and bias. The bias is learned here. The scale stays one: it would only
multiply what ReLU passes on to the next convolution, whose kernel can do the same.
"""

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt
from torch import nn

from braintune.models.backbone import (
    BACKBONES,
    Backbone,
    BackboneEntry,
    BackboneOptions,
    InputShape,
    demand_at_least,
)
from braintune.models.decoder import DecoderBackbone, voxel_head
from braintune.models.norms import NORMS, NormName


class UNetOptions(BackboneOptions):
    """Options of the 3D U-Net.

    Attributes:
        channels: Channels of the first convolution of each level, of which the second makes twice
            as many; each level but the first halves the resolution.
        norm: ``batch`` as published; ``instance`` and ``group`` do not depend on the batch, which
            helps where batches are small.
    """

    channels: list[PositiveInt] = Field([32, 64, 128, 256], min_length=2)
    norm: NormName = "batch"


class UNet(DecoderBackbone):
    """Levels of two convolutions, coarser and coarser, then back with the finer levels' maps.

    Its features are the average over the coarsest map. Sizes that do not halve evenly are rounded
    up, and what is too much is cut off on the way back.

    Args:
        options: Channels and norm.
        image_channels: Channels of the images.

    Example:
        >>> tiny = UNet(UNetOptions(channels=[2, 4]), image_channels=1)
        >>> tiny.maps(torch.zeros(2, 1, 8, 9, 8)).shape, tiny(torch.zeros(2, 1, 8, 9, 8)).shape
        (torch.Size([2, 4, 8, 9, 8]), torch.Size([2, 8]))
    """

    decoder_parts = ("upsample", "decoder")

    def __init__(self, options: UNetOptions, image_channels: int) -> None:
        super().__init__()
        outputs = [2 * channels for channels in options.channels]
        self._outputs = outputs
        self.n_maps, self.n_features = outputs[0], outputs[-1]
        self.encoder = nn.ModuleList()
        inputs = image_channels
        for channels in options.channels:
            self.encoder.append(_level(inputs, channels, 2 * channels, options.norm))
            inputs = 2 * channels
        self.upsample = nn.ModuleList()
        self.decoder = nn.ModuleList()
        for channels in outputs[-2::-1]:
            self.upsample.append(nn.ConvTranspose3d(inputs, inputs, 2, stride=2, bias=False))
            self.decoder.append(_level(inputs + channels, channels, channels, options.norm))
            inputs = channels

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """From (batch, channels, x, y, z) to (batch, n_features)."""
        return self._encode(images)[-1].mean(dim=(2, 3, 4))

    def maps(self, images: torch.Tensor) -> torch.Tensor:
        """From (batch, channels, x, y, z) to (batch, n_maps, x, y, z)."""
        *finer, x = self._encode(images)
        for upsample, level, skip in zip(self.upsample, self.decoder, finer[::-1], strict=True):
            i, j, k = skip.shape[2:]
            x = level(torch.cat([skip, upsample(x)[:, :, :i, :j, :k]], dim=1))
        return x

    def stages(self) -> list[tuple[str, ...]]:
        """One a level, down and up."""
        n = len(self.encoder)
        down = [(f"encoder.{level}",) for level in range(n)]
        return [*down, *[(f"upsample.{level}", f"decoder.{level}") for level in range(n - 1)]]

    def coarser_maps(self) -> list[tuple[str, int]]:
        """The decoder's levels but the last, with the channels of their encoder's."""
        levels = range(len(self.encoder) - 3, -1, -1)
        return [(f"decoder.{level}", self._outputs[-2 - level]) for level in levels]

    def _encode(self, images: torch.Tensor) -> list[torch.Tensor]:
        """The last map of each level, from fine to coarse."""
        maps: list[torch.Tensor] = []
        for level in self.encoder:
            x = F.max_pool3d(maps[-1], 2, ceil_mode=True) if maps else images
            maps.append(level(x))
        return maps


def _level(inputs: int, middle: int, outputs: int, norm: NormName) -> nn.Sequential:
    """Two convolutions, each with its norm and ReLU."""
    layers: list[nn.Module] = []
    for before, after in ((inputs, middle), (middle, outputs)):
        convolution = nn.Conv3d(before, after, 3, padding=1, bias=False)
        layers += [convolution, _unscaled(NORMS[norm](after), after), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def _unscaled(norm: nn.Module, channels: int) -> nn.Module:
    # A buffer and not None, for which some devices have no fast norm.
    del norm.weight
    norm.register_buffer("weight", torch.ones(channels))
    return norm


def _build(options: UNetOptions, given: InputShape) -> Backbone:
    demand_at_least("unet", given.shape, 2 ** (len(options.channels) - 1))
    return UNet(options, given.channels)


BACKBONES.add(
    BackboneEntry(
        name="unet",
        family="unet",
        summary="3D U-Net, with padded convolutions: maps as fine as the images",
        paper="Çiçek et al. 2016, arXiv 1606.06650",
        options=UNetOptions,
        build=_build,
        published=InputShape(3, (132, 132, 116)),
        parameters=19_069_955,
        head=voxel_head(3),
    )
)
