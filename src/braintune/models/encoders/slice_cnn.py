"""The slice encoder of Gupta et al. (arXiv 2303.01491), which learns from scratch."""

from typing import Literal

import torch
from pydantic import Field
from torch import nn

from braintune.models.encoders.encoder import (
    ENCODERS,
    EncoderEntry,
    EncoderOptions,
    SliceEncoder,
    SliceShape,
    demand_slices,
)

PUBLISHED_CHANNELS = [32, 64, 128, 256, 256, 64]

_LAYERS: dict[int, tuple[type[nn.Module], type[nn.Module], type[nn.Module]]] = {
    2: (nn.Conv2d, nn.InstanceNorm2d, nn.MaxPool2d),
    3: (nn.Conv3d, nn.InstanceNorm3d, nn.MaxPool3d),
}


class CNNOptions(EncoderOptions):
    """Options of the slice encoder.

    Attributes:
        channels: Channels of the blocks; each but the last halves the resolution.
    """

    channels: list[int] = Field(PUBLISHED_CHANNELS, min_length=2)


def instance_norm_blocks(
    axes: Literal[2, 3], image_channels: int, channels: list[int]
) -> nn.Sequential:
    """Blocks of convolution, instance norm, max-pooling and ReLU, then one of a pointwise one.

    Args:
        axes: Spatial axes: 2 for slices, 3 for scans.
        image_channels: Channels of the images.
        channels: Channels of the blocks; each but the last halves the resolution.
    """
    convolution, norm, pooling = _LAYERS[axes]
    *pooled, last = channels
    blocks, inputs = [], image_channels
    for outputs in pooled:
        layers = (convolution(inputs, outputs, 3, padding=1), norm(outputs), pooling(2), nn.ReLU())
        blocks.append(nn.Sequential(*layers))
        inputs = outputs
    blocks.append(nn.Sequential(convolution(inputs, last, 1), norm(last), nn.ReLU()))
    return nn.Sequential(*blocks)


def smallest_edge(channels: list[int]) -> int:
    """Pixels that `instance_norm_blocks` need along each axis.

    The norm of a single pixel is zero whatever the image, so the last map needs more.

    Example:
        >>> smallest_edge(PUBLISHED_CHANNELS)
        64
    """
    return int(2 ** len(channels))


def initialise_published(network: nn.Module) -> None:
    """Start convolutions and linear layers as the paper's own networks do."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def initialise_pointwise(layer: nn.Linear) -> None:
    """Start a linear layer that is a 1×1 convolution in the paper as convolutions there start."""
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    nn.init.zeros_(layer.bias)


class SliceCNN(SliceEncoder):
    """The blocks and the average over their last map.

    The published network averages over windows of 3 × 2, 2 × 2 and 2 × 3 pixels: the whole last map
    of sagittal, coronal and axial slices of 91 × 109 × 91 voxels, halved five times and rounded
    down each time. The mean over the map is the same for these, and fits every other slice.
    """

    def __init__(self, options: CNNOptions, image_channels: int) -> None:
        super().__init__()
        self.blocks = instance_norm_blocks(2, image_channels, options.channels)
        self.n_features = options.channels[-1]
        initialise_published(self)

    def forward(self, slices: torch.Tensor) -> torch.Tensor:
        """From (slices, channels, height, width) to (slices, n_features)."""
        features: torch.Tensor = self.blocks(slices)
        return features.mean(dim=(2, 3))

    def stages(self) -> list[tuple[str, ...]]:
        """One a block."""
        return [(f"blocks.{number}",) for number in range(len(self.blocks))]


def build_cnn(options: CNNOptions, given: SliceShape) -> SliceCNN:
    """Make the encoder.

    Raises:
        InputError: If the slices are too small for the blocks.
    """
    demand_slices("cnn", given, smallest_edge(options.channels))
    return SliceCNN(options, given.channels)


ENCODERS.add(
    EncoderEntry(
        name="cnn",
        summary="five convolution blocks with instance norm, learned from scratch",
        paper="Gupta et al. 2023, arXiv 2303.01491",
        options=CNNOptions,
        build=build_cnn,
    )
)
