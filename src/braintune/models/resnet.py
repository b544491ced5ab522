"""3D ResNets with the geometry of MedicalNet (Chen et al., arXiv 1904.00625).

MedicalNet keeps a fine feature map: stem stride 2, and dilation 2 and 4 instead of strides in the
third and fourth stages (``output_stride: 8``). That map is up to 64 times larger than an ordinary
ResNet's, and so is the cost of those stages; networks that start from scratch take
``output_stride: 32``. The weights of both have the same names and shapes but are not the same
function, which is why the geometry is an explicit option.
"""

from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import nn

from braintune.models.backbone import (
    BACKBONES,
    Backbone,
    BackboneEntry,
    BackboneOptions,
    InputShape,
    demand_at_least,
)


class ResNetOptions(BackboneOptions):
    """Options of the 3D ResNets.

    Attributes:
        width: Channels of the first stage.
        output_stride: How much coarser than the input the last feature map is.
    """

    width: PositiveInt = 64
    output_stride: Literal[8, 16, 32] = 32


class ChannelPadding(nn.Module):
    """Shortcut A of He et al. 2016: subsample, and fill the new channels with zeros."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.channels = channels
        self.stride = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From (batch, fewer, x, y, z) to (batch, channels, x / stride, …)."""
        s = self.stride
        x = x[:, :, ::s, ::s, ::s]
        return F.pad(x, (0, 0, 0, 0, 0, 0, 0, self.channels - x.shape[1]))


def _projection(inputs: int, outputs: int, stride: int) -> nn.Module:
    """Shortcut B: a 1×1×1 convolution."""
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm3d(outputs)
    )


def _padding(_: int, outputs: int, stride: int) -> nn.Module:
    return ChannelPadding(outputs, stride)


class BasicBlock(nn.Module):
    """Two 3×3×3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, dilation: int, down: nn.Module | None):
        super().__init__()
        conv = partial(nn.Conv3d, kernel_size=3, padding=dilation, dilation=dilation, bias=False)
        self.conv1 = conv(inputs, width, stride=stride)
        self.bn1 = nn.BatchNorm3d(width)
        self.conv2 = conv(width, width)
        self.bn2 = nn.BatchNorm3d(width)
        self.downsample = down

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From (batch, inputs, x, y, z) to (batch, width, x / stride, …)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)) + shortcut)


class Bottleneck(nn.Module):
    """A 3×3×3 convolution between two of 1×1×1, and a shortcut."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, dilation: int, down: nn.Module | None):
        super().__init__()
        self.conv1 = nn.Conv3d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        self.conv2 = nn.Conv3d(
            width, width, 3, stride=stride, padding=dilation, dilation=dilation, bias=False
        )
        self.bn2 = nn.BatchNorm3d(width)
        self.conv3 = nn.Conv3d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(4 * width)
        self.downsample = down

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From (batch, inputs, x, y, z) to (batch, 4 · width, x / stride, …)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.relu(self.bn3(self.conv3(x)) + shortcut)


# Stages 3 and 4 as (stride, dilation), by how much coarser the last feature map is to be.
_LATE_STAGES = {8: ((1, 2), (1, 4)), 16: ((2, 1), (1, 2)), 32: ((2, 1), (2, 1))}


class ResNet(Backbone):
    """A 3D ResNet; its features are the average over the last feature map.

    Args:
        block: The residual block.
        depths: Blocks in each of the four stages.
        shortcut: ``"A"`` pads channels with zeros, ``"B"`` projects them.
        options: Width and geometry.
        channels: Image channels.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: tuple[int, int, int, int],
        shortcut: Literal["A", "B"],
        options: ResNetOptions,
        channels: int,
    ) -> None:
        super().__init__()
        self.n_features = 8 * options.width * block.expansion
        self.conv1 = nn.Conv3d(channels, options.width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm3d(options.width)
        self.maxpool = nn.MaxPool3d(3, stride=2, padding=1)
        geometry = ((1, 1), (2, 1), *_LATE_STAGES[options.output_stride])
        inputs = options.width
        for number, (depth, (stride, dilation)) in enumerate(zip(depths, geometry, strict=True)):
            width = options.width * 2**number
            blocks = []
            for index in range(depth):
                step = stride if index == 0 else 1
                outputs = width * block.expansion
                down = None
                if step != 1 or inputs != outputs:
                    down = (_padding if shortcut == "A" else _projection)(inputs, outputs, step)
                blocks.append(block(inputs, width, step, dilation, down))
                inputs = outputs
            self.add_module(f"layer{number + 1}", nn.Sequential(*blocks))
        _initialise(self)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """From (batch, channels, x, y, z) to (batch, n_features)."""
        x = self.maxpool(F.relu(self.bn1(self.conv1(images))))
        for number in range(1, 5):
            x = self.get_submodule(f"layer{number}")(x)
        return x.mean(dim=(2, 3, 4))


def _initialise(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _register(
    name: str,
    block: type[BasicBlock] | type[Bottleneck],
    depths: tuple[int, int, int, int],
    shortcut: Literal["A", "B"],
) -> None:
    def build(options: ResNetOptions, given: InputShape) -> Backbone:
        demand_at_least(name, given.shape, 16)
        return ResNet(block, depths, shortcut, options, given.channels)

    BACKBONES.add(
        BackboneEntry(
            name=name,
            family="resnet",
            summary=f"3D ResNet of {1 + 1 + sum(depths) * (2 if block is BasicBlock else 3)} layers"
            " with the stem and shortcuts of MedicalNet",
            paper="Chen et al. 2019, arXiv 1904.00625",
            options=ResNetOptions,
            build=build,
            published=InputShape(1, (96, 96, 96)),
        )
    )


_register("resnet10", BasicBlock, (1, 1, 1, 1), "B")
_register("resnet18", BasicBlock, (2, 2, 2, 2), "A")
_register("resnet50", Bottleneck, (3, 4, 6, 3), "B")
