"""VideoMAE, ViT-B/16 on tubelets of two frames (Tong et al., arXiv 2203.12602).

The published network has biases of queries and values but not of keys. Here keys have one too: it
does not change the attention, and is zero in converted weights.
"""

import math

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import nn

from braintune.models.backbone import (
    BACKBONES,
    Backbone,
    BackboneEntry,
    InputShape,
    Step,
    demand_multiple,
)
from braintune.models.video import VideoBackbone, VideoOptions, as_video, initialise_transformer
from braintune.models.vit import Block, Plan, ViTOptions

_PLAN = Plan(class_token=False, feature="mean", eps=1e-12)
_PUBLISHED_GRID = (8, 14, 14)


class VideoMAEOptions(VideoOptions, ViTOptions):
    """Options of VideoMAE; see `ViTOptions`.

    Attributes:
        patch: Edge of a patch in height and width, in voxels.
        tubelet: Edge of a patch in time, in voxels.
        time_axis: The axis of the scan that is read as time.
    """

    tubelet: PositiveInt = 2


def sinusoids(positions: int, width: int) -> torch.Tensor:
    """The fixed position embedding of Vaswani et al. 2017, sine and cosine in turns.

    Returns:
        (positions, width).

    Example:
        >>> sinusoids(2, 2)
        tensor([[0.0000, 1.0000],
                [0.8415, 0.5403]])
    """
    place = torch.arange(positions, dtype=torch.float64)[:, None]
    column = torch.arange(width)
    angle = place / 10000 ** (2 * (column // 2).double() / width)
    return torch.where(column % 2 == 0, angle.sin(), angle.cos()).float()


def positions_of(grid: tuple[int, int, int], width: int) -> torch.Tensor:
    """Position embeddings of a grid of tokens, resized from those of the published grid.

    Sinusoids run over the flattened grid, so those of another grid would be of other places.

    Returns:
        (1, tokens, width).
    """
    table = sinusoids(math.prod(_PUBLISHED_GRID), width)
    if grid != _PUBLISHED_GRID:
        in_space = table.T[None].unflatten(2, _PUBLISHED_GRID)
        table = F.interpolate(in_space, size=grid, mode="trilinear")[0].flatten(1).T
    return table[None]


class VideoMAE(VideoBackbone):
    """The encoder of VideoMAE; its features are the norm of the mean of all tokens.

    Args:
        options: Sizes.
        given: The input.
    """

    def __init__(self, options: VideoMAEOptions, given: InputShape) -> None:
        super().__init__(options.time_axis)
        self.n_features = options.width
        patch = (options.tubelet, options.patch, options.patch)
        time, height, width = as_video(given.shape, options.time_axis)
        grid = (time // patch[0], height // patch[1], width // patch[2])
        self.patch_embed = nn.Conv3d(given.channels, options.width, patch, stride=patch)
        self.register_buffer("positions", positions_of(grid, options.width), persistent=False)
        self.drop = nn.Dropout(options.dropout)
        self.blocks = nn.Sequential(*[Block(options, _PLAN) for _ in range(options.depth)])
        self.norm = nn.LayerNorm(options.width)
        initialise_transformer(self)

    def steps(self) -> list[Step]:
        """The embedding, then one a block; the last norm goes with the last block."""
        *blocks, last = self.blocks
        return [self._embed, *blocks, lambda tokens: self.norm(last(tokens).mean(dim=1))]

    def _embed(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.patch_embed(self.video(images)).flatten(2).transpose(1, 2)
        embedded: torch.Tensor = self.drop(tokens + self.positions)
        return embedded

    def stages(self) -> list[tuple[str, ...]]:
        """The embedding, then one a block; the last norm goes with the last block."""
        *blocks, last = [f"blocks.{number}" for number in range(len(self.blocks))]
        return [("patch_embed",), *[(block,) for block in blocks], (last, "norm")]


def _build(options: VideoMAEOptions, given: InputShape) -> Backbone:
    x, y, z = (
        options.tubelet if axis == options.time_axis else options.patch for axis in ("x", "y", "z")
    )
    demand_multiple("videomae", given.shape, (x, y, z))
    return VideoMAE(options, given)


BACKBONES.add(
    BackboneEntry(
        name="videomae",
        family="video",
        summary="VideoMAE, ViT-B/16 on tubelets of two frames, with fixed positions",
        paper="Tong et al. 2022, arXiv 2203.12602",
        options=VideoMAEOptions,
        build=_build,
        published=InputShape(3, (16, 224, 224)),
        parameters=86_236_416,
    )
)
