"""What every backbone is, and the registry that holds them.

To add one, write a file in this folder that builds a `Backbone` and registers a `BackboneEntry`.
"""

from collections.abc import Callable
from dataclasses import dataclass
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


class Backbone(nn.Module):
    """A network without its task head: images in, one feature vector a scan out.

    Attributes:
        n_features: Length of the feature vector.
    """

    n_features: int

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """From (batch, channels, x, y, z) to (batch, n_features)."""
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
        published: The input that it was published for, by which parameters are counted.
        weights: Names of the weight records that fit it.
    """

    name: str
    family: str
    summary: str
    paper: str
    options: type[BackboneOptions]
    build: Callable[[Any, InputShape], Backbone]
    published: InputShape
    weights: tuple[str, ...] = ()


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


def demand_multiple(name: str, shape: tuple[int, int, int], of: int) -> None:
    """Refuse a shape that a network can't divide into whole parts.

    Raises:
        InputError: With the nearest shape that would do.
    """
    if any(n % of for n in shape):
        nearest = [max(of, round(n / of) * of) for n in shape]
        msg = (
            f"{name} needs a shape of multiples of {of}, not {list(shape)}."
            f" Set 'prepare: {{shape: {nearest}}}'."
        )
        raise InputError(msg)


def demand_at_least(name: str, shape: tuple[int, int, int], smallest: int) -> None:
    """Refuse a shape that a network shrinks to nothing.

    Raises:
        InputError: With the least that would do.
    """
    if min(shape) < smallest:
        msg = f"{name} needs at least {smallest} voxels along each axis, not {list(shape)}."
        raise InputError(msg)
