"""3D ResNets with the geometry of MedicalNet (Chen et al., arXiv 1904.00625).

MedicalNet keeps a fine feature map: stem stride 2, and dilation 2 and 4 instead of strides in the
third and fourth stages (``output_stride: 8``). That map is up to 64 times larger than an ordinary
ResNet's, and so is the cost of those stages; networks that start from scratch take
``output_stride: 32``. The weights of both have the same names and shapes but are not the same
function, which is why the geometry is an explicit option.
"""

from dataclasses import dataclass, replace
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
    Step,
    demand_at_least,
)
from braintune.models.stochastic_depth import StochasticDepth


class ResNetOptions(BackboneOptions):
    """Options of the 3D ResNets.

    Attributes:
        width: Channels of the first stage.
        output_stride: How much coarser than the input the last feature map is; MedicalNet's is 8.
        shortcut: ``"A"`` pads channels with zeros, ``"B"`` projects them; by default as MedicalNet,
            A for depths 18 and 34.
    """

    width: PositiveInt = 64
    output_stride: Literal[8, 16, 32] = 32
    shortcut: Literal["A", "B"] | None = None


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


class Projection(nn.Sequential):
    """Shortcut B of He et al. 2016: a 1×1×1 convolution and its norm."""

    def __init__(self, inputs: int, outputs: int, stride: int, bias: bool) -> None:
        super().__init__(
            nn.Conv3d(inputs, outputs, 1, stride=stride, bias=bias), nn.BatchNorm3d(outputs)
        )


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
        self.stochastic_depth = StochasticDepth(0.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From (batch, inputs, x, y, z) to (batch, width, x / stride, …)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu_(self.bn1(self.conv1(x)))
        return F.relu_(self.stochastic_depth(self.bn2(self.conv2(x))).add_(shortcut))


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
        self.stochastic_depth = StochasticDepth(0.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From (batch, inputs, x, y, z) to (batch, 4 · width, x / stride, …)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu_(self.bn1(self.conv1(x)))
        x = F.relu_(self.bn2(self.conv2(x)))
        return F.relu_(self.stochastic_depth(self.bn3(self.conv3(x))).add_(shortcut))


# Stages 3 and 4 as (stride, dilation), by how much coarser the last feature map is to be.
_LATE_STAGES = {8: ((1, 2), (1, 4)), 16: ((2, 1), (1, 2)), 32: ((2, 1), (2, 1))}


@dataclass(frozen=True)
class Geometry:
    """What sets the 3D ResNets apart.

    Attributes:
        block: The residual block.
        depths: Blocks in each of the four stages.
        width: Channels of the first stage.
        shortcut: ``"A"`` pads channels with zeros, ``"B"`` projects them.
        shortcut_bias: Whether the projections have a bias, which the norm after them makes idle.
        output_stride: How much coarser than the input the last feature map is.
    """

    block: type[BasicBlock] | type[Bottleneck]
    depths: tuple[int, int, int, int]
    width: int = 64
    shortcut: Literal["A", "B"] = "B"
    shortcut_bias: bool = False
    output_stride: Literal[8, 16, 32] = 32

    @property
    def layers(self) -> int:
        """How many layers of weights there are, by which ResNets are called."""
        return 2 + sum(self.depths) * (2 if self.block is BasicBlock else 3)


class ResNet(Backbone):
    """A 3D ResNet; its features are the average over the last feature map.

    Args:
        geometry: Depths, widths, strides and shortcuts.
        channels: Image channels.
    """

    def __init__(self, geometry: Geometry, channels: int) -> None:
        super().__init__()
        self.n_features = 8 * geometry.width * geometry.block.expansion
        self.conv1 = nn.Conv3d(channels, geometry.width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm3d(geometry.width)
        self.maxpool = nn.MaxPool3d(3, stride=2, padding=1)
        strides = ((1, 1), (2, 1), *_LATE_STAGES[geometry.output_stride])
        inputs = geometry.width
        for number, (stride, dilation) in enumerate(strides):
            stage = _stage(geometry, number, inputs, stride, dilation)
            self.add_module(f"layer{number + 1}", stage)
            inputs = geometry.width * 2**number * geometry.block.expansion
        _initialise(self)

    def steps(self) -> list[Step]:
        """The stem, then one a residual block; after the last, the average."""
        *blocks, last = [
            block
            for number in range(1, 5)
            for block in self.get_submodule(f"layer{number}").children()
        ]
        return [self._stem, *blocks, lambda x: last(x).mean(dim=(2, 3, 4))]

    def stages(self) -> list[tuple[str, ...]]:
        """The stem, then one a residual block."""
        blocks = [
            (f"layer{number}.{index}",)
            for number in range(1, 5)
            for index, _ in enumerate(self.get_submodule(f"layer{number}").children())
        ]
        return [("conv1", "bn1"), *blocks]

    def _stem(self, images: torch.Tensor) -> torch.Tensor:
        x: torch.Tensor = self.maxpool(F.relu_(self.bn1(self.conv1(images))))
        return x


def _stage(
    geometry: Geometry, number: int, inputs: int, stride: int, dilation: int
) -> nn.Sequential:
    """The blocks of one stage, of which the first strides."""
    width = geometry.width * 2**number
    outputs = width * geometry.block.expansion
    blocks = []
    for index in range(geometry.depths[number]):
        step = stride if index == 0 else 1
        down: nn.Module | None = None
        if step != 1 or inputs != outputs:
            down = (
                ChannelPadding(outputs, step)
                if geometry.shortcut == "A"
                else Projection(inputs, outputs, step, geometry.shortcut_bias)
            )
        blocks.append(geometry.block(inputs, width, step, dilation, down))
        inputs = outputs
    return nn.Sequential(*blocks)


def _initialise(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _register_medicalnet(name: str, geometry: Geometry, parameters: int) -> None:
    def build(options: ResNetOptions, given: InputShape) -> Backbone:
        demand_at_least(name, given.shape, 16)
        chosen = replace(
            geometry,
            width=options.width,
            output_stride=options.output_stride,
            shortcut=options.shortcut or geometry.shortcut,
        )
        return ResNet(chosen, given.channels)

    BACKBONES.add(
        BackboneEntry(
            name=name,
            family="resnet",
            summary=f"3D ResNet of {geometry.layers} layers with the stem and shortcuts of"
            " MedicalNet",
            paper="Chen et al. 2019, arXiv 1904.00625",
            options=ResNetOptions,
            build=build,
            published=InputShape(1, (96, 96, 96)),
            parameters=parameters,
        )
    )


_register_medicalnet("resnet10", Geometry(BasicBlock, (1, 1, 1, 1)), 14_355_520)
_register_medicalnet("resnet18", Geometry(BasicBlock, (2, 2, 2, 2), shortcut="A"), 32_986_176)
_register_medicalnet("resnet34", Geometry(BasicBlock, (3, 4, 6, 3), shortcut="A"), 63_295_808)
_register_medicalnet("resnet50", Geometry(Bottleneck, (3, 4, 6, 3)), 46_155_072)
_register_medicalnet("resnet101", Geometry(Bottleneck, (3, 4, 23, 3)), 85_201_216)
