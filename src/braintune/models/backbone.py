"""What every backbone is, and the registry that holds them.

To add one, write a file in this folder that builds a `Backbone` and registers a `BackboneEntry`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import nn

from braintune.errors import InputError
from braintune.registry import Registry, parse


@dataclass(frozen=True)
class InputShape:
    """What a network is given.

    Attributes:
        channels: Image channels.
        shape: Voxels along x, y and z.
    """

    channels: int
    shape: tuple[int, int, int]


@dataclass(frozen=True)
class TokenGrid:
    """How the tokens of a position embedding lie in space.

    Attributes:
        extra: Tokens before the grid's, such as the class token.
        shape: Tokens along each axis; two axes for networks of 2D images.
    """

    extra: int
    shape: tuple[int, ...]


# What a stage computes of what the one before it gave.
Step = Callable[[torch.Tensor], torch.Tensor]


class Backbone(nn.Module):
    """A network without its task head: images in, one feature vector a scan out.

    One whose stages are a sequence says what each of them computes, by `steps`; any other has a
    `forward` of its own.

    Attributes:
        n_features: Length of the feature vector.
        token_grids: For each learned position embedding of a grid of tokens, by its key, that grid;
            with it, embeddings of another grid can be resized.
    """

    n_features: int
    token_grids: Mapping[str, TokenGrid] = MappingProxyType({})

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """From (batch, channels, x, y, z) to (batch, n_features)."""
        steps = self.steps()
        if not steps:
            raise NotImplementedError
        return run_steps(steps, images)

    def steps(self) -> list[Step]:
        """What each of `stages` computes of what the one before it gave.

        Empty where stages are no sequence in which each gives one tensor.
        """
        return []

    def stages(self) -> list[tuple[str, ...]]:
        """Names of submodules and parameters from input to output, in groups of like depth.

        Every parameter lies in exactly one of them.
        """
        raise NotImplementedError

    def layer_groups(self) -> list[list[str]]:
        """Names of the parameters from input to output, for learning rates that fall with depth.

        Example:
            >>> tiny = build_backbone("sfcn", InputShape(1, (32, 32, 32)), {"channels": [4, 8]})
            >>> [len(group) for group in tiny.layer_groups()]
            [4, 4]
        """
        names = [name for name, _ in self.named_parameters()]
        groups = [
            [
                name
                for name in names
                if name in stage or name.startswith(tuple(f"{s}." for s in stage))
            ]
            for stage in self.stages()
        ]
        return [group for group in groups if group]


def run_steps(steps: list[Step], x: torch.Tensor) -> torch.Tensor:
    """Take some steps, one after the other."""
    for step in steps:
        x = step(x)
    return x


class MapBackbone(Backbone):
    """A backbone that can also give one feature vector a voxel, by a decoder.

    `forward` needs the encoder alone.

    Attributes:
        n_maps: Channels of the maps.
    """

    n_maps: int

    def maps(self, images: torch.Tensor) -> torch.Tensor:
        """From (batch, channels, x, y, z) to (batch, n_maps, x, y, z)."""
        raise NotImplementedError

    def coarser_maps(self) -> list[tuple[str, int]]:
        """Submodules that give coarser maps on the way, and their channels, from fine to coarse.

        Empty for a network that offers none.
        """
        return []

    def drop_decoder(self) -> None:
        """Forget what only `maps` needs, for tasks that predict one value a scan."""
        raise NotImplementedError


class BackboneOptions(BaseModel):
    """Options of a backbone; the defaults are the published network."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class BackboneEntry:
    """One architecture of the registry.

    Attributes:
        name: What recipes call it.
        family: The architecture's kind, such as ``"resnet"``.
        summary: One line for `braintune models`.
        paper: Where it was published.
        options: Its options; the defaults are the published form.
        build: Makes the network from options and the input's shape.
        published: The input that it was published for.
        parameters: How many it has in its published form and size; the tests count them.
        head: Makes the head that it was published with, where the published count includes one.
    """

    name: str
    family: str
    summary: str
    paper: str
    options: type[BackboneOptions]
    build: Callable[[Any, InputShape], Backbone]
    published: InputShape
    parameters: int
    head: Callable[[Backbone], nn.Module] | None = None


BACKBONES: Registry[BackboneEntry] = Registry("backbone", "braintune.models")


def check_options(name: str, options: dict[str, Any]) -> BackboneOptions:
    """A backbone's options, checked.

    Raises:
        InputError: If there is no such backbone or option, naming the nearest.
    """
    return parse(BACKBONES.get(name).options, options, "backbone")


def build_backbone(name: str, given: InputShape, options: dict[str, Any]) -> Backbone:
    """Make a backbone with random weights.

    Raises:
        InputError: If there is no such backbone or option, or the shape does not suit it.

    Example:
        >>> tiny = build_backbone("sfcn", InputShape(1, (32, 32, 32)), {"channels": [4, 8]})
        >>> tiny(torch.zeros(2, 1, 32, 32, 32)).shape
        torch.Size([2, 8])
    """
    checked = check_options(name, options)
    return BACKBONES.get(name).build(checked, given)


def demand_multiple(name: str, shape: tuple[int, int, int], of: int | tuple[int, int, int]) -> None:
    """Refuse a shape that a network can't divide into whole parts.

    Args:
        name: The network.
        shape: Voxels along x, y and z.
        of: Voxels of a part, along each axis if they differ.

    Raises:
        InputError: With the nearest shape that would do.
    """
    parts = (of,) * 3 if isinstance(of, int) else of
    if any(n % part for n, part in zip(shape, parts, strict=True)):
        nearest = [max(p, round(n / p) * p) for n, p in zip(shape, parts, strict=True)]
        steps = of if isinstance(of, int) else list(of)
        msg = (
            f"{name} needs a shape of multiples of {steps}, not {list(shape)}."
            f" {shape_remedy(nearest)}"
        )
        raise InputError(msg)


def shape_remedy(shape: list[int]) -> str:
    """How to give a network another shape.

    Example:
        >>> shape_remedy([64, 64, 64])
        "Set 'prepare: {shape: [64, 64, 64]}', or 'task: {patch: ...}' where it sees patches."
    """
    return f"Set 'prepare: {{shape: {shape}}}', or 'task: {{patch: ...}}' where it sees patches."


def demand_at_least(name: str, shape: tuple[int, int, int], smallest: int) -> None:
    """Refuse a shape that a network shrinks to nothing.

    Raises:
        InputError: With the least that would do.
    """
    if min(shape) < smallest:
        msg = f"{name} needs at least {smallest} voxels along each axis, not {list(shape)}."
        raise InputError(msg)
