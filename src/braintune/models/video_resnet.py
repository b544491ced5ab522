"""ResNets of videos: R3D, MC3 and R(2+1)D of 18 layers (Tran et al., arXiv 1711.11248).

They differ in their convolutions: over time and space at once (R3D), so in the first stage and over
space alone in the others (MC3), or over space and then over time (R(2+1)D). Keys and shapes of the
weights are those of torchvision's ``r3d_18``, ``mc3_18`` and ``r2plus1d_18`` without ``fc``.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

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
    demand_at_least,
)
from braintune.models.stochastic_depth import StochasticDepth
from braintune.models.video import VideoBackbone, VideoOptions

# Inputs, channels between space and time, outputs, stride.
Convolution = Callable[[int, int, int, int], nn.Module]


class VideoResNetOptions(VideoOptions):
    """Options of the ResNets of videos.

    Attributes:
        width: Channels of the first stage.
        time_axis: The axis of the scan that is read as time.
    """

    width: PositiveInt = 64


def _convolution(
    inputs: int, outputs: int, kernel: tuple[int, int, int], stride: tuple[int, int, int]
) -> nn.Conv3d:
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    return nn.Conv3d(inputs, outputs, kernel, stride=stride, padding=padding, bias=False)


def over_time_and_space(inputs: int, _: int, outputs: int, stride: int) -> nn.Module:
    """A 3×3×3 convolution."""
    return _convolution(inputs, outputs, (3, 3, 3), (stride, stride, stride))


def over_space(inputs: int, _: int, outputs: int, stride: int) -> nn.Module:
    """A 1×3×3 convolution, which leaves time as it is."""
    return _convolution(inputs, outputs, (1, 3, 3), (1, stride, stride))


def over_space_then_time(inputs: int, between: int, outputs: int, stride: int) -> nn.Module:
    """A 1×3×3 convolution and a 3×1×1 convolution, with a norm and ReLU between them."""
    return nn.Sequential(
        _convolution(inputs, between, (1, 3, 3), (1, stride, stride)),
        nn.BatchNorm3d(between),
        nn.ReLU(inplace=True),
        _convolution(between, outputs, (3, 1, 1), (stride, 1, 1)),
    )


@dataclass(frozen=True)
class Geometry:
    """What sets the ResNets of videos apart.

    Attributes:
        first: The convolution of the first stage.
        others: The convolution of the other stages.
        width: Channels of the first stage.
    """

    first: Convolution
    others: Convolution
    width: int = 64


class VideoBlock(nn.Module):
    """Two convolutions and a shortcut.

    Args:
        convolution: Makes the convolutions.
        inputs: Channels before the block.
        outputs: Channels after it.
        stride: How much coarser it makes the map.
    """

    def __init__(self, convolution: Convolution, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        # As many weights as a 3×3×3 convolution has. As published in code, the second convolution
        # takes the same number, though it may have more inputs.
        between = (27 * inputs * outputs) // (9 * inputs + 3 * outputs)
        self.conv1 = nn.Sequential(
            convolution(inputs, between, outputs, stride),
            nn.BatchNorm3d(outputs),
            nn.ReLU(inplace=True),
        )
        self.conv2 = nn.Sequential(
            convolution(outputs, between, outputs, 1), nn.BatchNorm3d(outputs)
        )
        self.stochastic_depth = StochasticDepth(0.0)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            time_stride = 1 if convolution is over_space else stride
            self.downsample = nn.Sequential(
                _convolution(inputs, outputs, (1, 1, 1), (time_stride, stride, stride)),
                nn.BatchNorm3d(outputs),
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From (batch, inputs, t, h, w) to (batch, outputs, t / stride, h / stride, w / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(self.stochastic_depth(self.conv2(self.conv1(x))) + shortcut)


class VideoResNet(VideoBackbone):
    """A ResNet of videos; its features are the average over the last feature map.

    Args:
        geometry: Convolutions and width.
        options: The axis that is read as time.
        channels: Image channels.
    """

    def __init__(self, geometry: Geometry, options: VideoResNetOptions, channels: int) -> None:
        super().__init__(options.time_axis)
        self.stem = _stem(geometry, channels)
        inputs = geometry.width
        for number in range(4):
            outputs = geometry.width * 2**number
            convolution = geometry.others if number else geometry.first
            stage = nn.Sequential(
                VideoBlock(convolution, inputs, outputs, 2 if number else 1),
                VideoBlock(convolution, outputs, outputs, 1),
            )
            self.add_module(f"layer{number + 1}", stage)
            inputs = outputs
        self.n_features = inputs
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def steps(self) -> list[Step]:
        """The stem, then one a residual block; after the last, the average."""
        *blocks, last = [
            block
            for number in range(1, 5)
            for block in self.get_submodule(f"layer{number}").children()
        ]
        return [
            lambda images: self.stem(self.video(images)),
            *blocks,
            lambda x: last(x).mean(dim=(2, 3, 4)),
        ]

    def stages(self) -> list[tuple[str, ...]]:
        """The stem, then one a residual block."""
        blocks = [(f"layer{stage}.{block}",) for stage in range(1, 5) for block in range(2)]
        return [("stem",), *blocks]


def _stem(geometry: Geometry, channels: int) -> nn.Sequential:
    """Halves height and width, and keeps time."""
    width = geometry.width
    if geometry.first is not over_space_then_time:
        return nn.Sequential(
            _convolution(channels, width, (3, 7, 7), (1, 2, 2)),
            nn.BatchNorm3d(width),
            nn.ReLU(inplace=True),
        )
    between = max(1, 45 * width // 64)
    return nn.Sequential(
        _convolution(channels, between, (1, 7, 7), (1, 2, 2)),
        nn.BatchNorm3d(between),
        nn.ReLU(inplace=True),
        _convolution(between, width, (3, 1, 1), (1, 1, 1)),
        nn.BatchNorm3d(width),
        nn.ReLU(inplace=True),
    )


def _register(name: str, convolutions: str, geometry: Geometry, parameters: int) -> None:
    def build(options: VideoResNetOptions, given: InputShape) -> Backbone:
        demand_at_least(name, given.shape, 16)
        return VideoResNet(replace(geometry, width=options.width), options, given.channels)

    BACKBONES.add(
        BackboneEntry(
            name=name,
            family="video",
            summary=f"ResNet-18 of videos with convolutions over {convolutions}",
            paper="Tran et al. 2018, arXiv 1711.11248",
            options=VideoResNetOptions,
            build=build,
            published=InputShape(3, (16, 112, 112)),
            parameters=parameters,
        )
    )


_register(
    "r3d18",
    "time and space at once",
    Geometry(over_time_and_space, over_time_and_space),
    33_166_272,
)
_register(
    "mc3-18",
    "time in its first stage alone, then space",
    Geometry(over_time_and_space, over_space),
    11_490_240,
)
_register(
    "r2plus1d18",
    "space and then time",
    Geometry(over_space_then_time, over_space_then_time),
    31_300_125,
)
