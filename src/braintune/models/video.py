"""What networks of videos share: the axis that stands for time, and the parts of their blocks.

A video has time where a scan has a third axis of space. Networks of videos are used on scans as
they are: one spatial axis is read as time (Dhinagar et al., arXiv 2309.04651).
"""

from typing import Literal

import torch
from pydantic import Field
from torch import nn

from braintune.models.backbone import Backbone, BackboneOptions

Axis = Literal["x", "y", "z"]


class VideoOptions(BackboneOptions):
    """Options of every network of videos.

    Attributes:
        time_axis: The axis of the scan that is read as time; the other two, in their order, are
            the height and width of a frame.
    """

    time_axis: Axis = "x"


class VideoTransformerOptions(VideoOptions):
    """Options of transformers of videos.

    Attributes:
        dropout: Share of activations dropped in the perceptrons.
        drop_path: Share of scans for which the last block's branches are dropped in training; it
            rises with depth from none.
    """

    dropout: float = Field(0.0, ge=0, lt=1)
    drop_path: float = Field(0.0, ge=0, lt=1)


def as_video(shape: tuple[int, int, int], axis: Axis) -> tuple[int, int, int]:
    """A scan's (x, y, z) shape as (time, height, width).

    Example:
        >>> as_video((10, 20, 30), "z")
        (30, 10, 20)
    """
    time = "xyz".index(axis)
    height, width = (n for index, n in enumerate(shape) if index != time)
    return shape[time], height, width


class VideoBackbone(Backbone):
    """A backbone that reads one axis of a scan as time.

    Args:
        time_axis: That axis.
    """

    def __init__(self, time_axis: Axis) -> None:
        super().__init__()
        self.time_dim = 2 + "xyz".index(time_axis)

    def video(self, images: torch.Tensor) -> torch.Tensor:
        """From (batch, channels, x, y, z) to (batch, channels, time, height, width)."""
        return images.movedim(self.time_dim, 2)


def perceptron(inputs: int, outputs: int, dropout: float) -> nn.Sequential:
    """A hidden layer four times as wide as the inputs, and an output layer."""
    return nn.Sequential(
        nn.Linear(inputs, 4 * inputs),
        nn.GELU(),
        nn.Dropout(dropout),
        nn.Linear(4 * inputs, outputs),
        nn.Dropout(dropout),
    )


def initialise_transformer(network: nn.Module) -> None:
    """Small random weights and no biases in all linear layers."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
