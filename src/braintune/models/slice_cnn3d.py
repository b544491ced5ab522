"""The 3D baseline of the slice-set networks (Gupta et al., arXiv 2303.01491): the encoder in 3D."""

import torch
from pydantic import Field
from torch import nn

from braintune.models.backbone import (
    BACKBONES,
    Backbone,
    BackboneEntry,
    BackboneOptions,
    InputShape,
    demand_at_least,
)
from braintune.models.encoders.slice_cnn import (
    PUBLISHED_CHANNELS,
    initialise_published,
    instance_norm_blocks,
    smallest_edge,
)


class SliceCNN3DOptions(BackboneOptions):
    """Options of the 3D baseline.

    Attributes:
        channels: Channels of the blocks; each but the last halves the resolution.
    """

    channels: list[int] = Field(PUBLISHED_CHANNELS, min_length=2)


class SliceCNN3D(Backbone):
    """The blocks of the slice encoder with 3D layers, and the average over their last map.

    The published network averages over a window of 2 × 3 × 2, the whole last map for 91 × 109 × 91
    voxels.
    """

    def __init__(self, options: SliceCNN3DOptions, image_channels: int) -> None:
        super().__init__()
        self.n_features = options.channels[-1]
        self.blocks = instance_norm_blocks(3, image_channels, options.channels)
        initialise_published(self)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """From (batch, channels, x, y, z) to (batch, n_features)."""
        features: torch.Tensor = self.blocks(images)
        return features.mean(dim=(2, 3, 4))

    def stages(self) -> list[tuple[str, ...]]:
        """One a block."""
        return [(f"blocks.{number}",) for number in range(len(self.blocks))]


def _build(options: SliceCNN3DOptions, given: InputShape) -> Backbone:
    demand_at_least("slice-cnn3d", given.shape, smallest_edge(options.channels))
    return SliceCNN3D(options, given.channels)


def _head(backbone: Backbone) -> nn.Module:
    return nn.Linear(backbone.n_features, 1)


BACKBONES.add(
    BackboneEntry(
        name="slice-cnn3d",
        family="slice-set",
        summary="3D CNN with instance norm, the 3D baseline of the slice-set networks",
        paper="Gupta et al. 2023, arXiv 2303.01491",
        options=SliceCNN3DOptions,
        build=_build,
        published=InputShape(1, (91, 109, 91)),
        parameters=2_948_801,
        head=_head,
    )
)
