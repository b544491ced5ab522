"""What every encoder of 2D slices is, and the registry that holds them.

To add one, write a file in this folder that builds a `SliceEncoder` and registers an
`EncoderEntry`; every backbone of slices can then take it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any

import torch
from pydantic import BaseModel, BeforeValidator, ConfigDict
from torch import nn

from braintune.errors import InputError
from braintune.models.backbone import TokenGrid
from braintune.registry import Registry, parse


@dataclass(frozen=True)
class SliceShape:
    """What an encoder is given.

    Attributes:
        channels: Image channels.
        height: Pixels along the first axis of a slice.
        width: Pixels along the second.
    """

    channels: int
    height: int
    width: int


class SliceEncoder(nn.Module):
    """A network of 2D images without its head: slices in, one feature vector a slice out.

    Attributes:
        n_features: Length of the feature vector.
        token_grids: For each learned position embedding of a grid of patches, by its key, that
            grid.
    """

    n_features: int
    token_grids: Mapping[str, TokenGrid] = MappingProxyType({})

    def forward(self, slices: torch.Tensor) -> torch.Tensor:
        """From (slices, channels, height, width) to (slices, n_features)."""
        raise NotImplementedError

    def stages(self) -> list[tuple[str, ...]]:
        """Names of submodules and parameters from input to output; see `Backbone.stages`."""
        raise NotImplementedError


class EncoderOptions(BaseModel):
    """Options of an encoder; the defaults are the published network."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class EncoderEntry:
    """One architecture of the registry.

    Attributes:
        name: What recipes call it.
        summary: One line.
        paper: Where it was published.
        options: Its options; the defaults are the published form.
        build: Makes the network from options and the slices' shape.
    """

    name: str
    summary: str
    paper: str
    options: type[EncoderOptions]
    build: Callable[[Any, SliceShape], SliceEncoder]


ENCODERS: Registry[EncoderEntry] = Registry("encoder", "braintune.models.encoders")


class EncoderChoice(BaseModel):
    """The name of an encoder, and beside it the encoder's own options.

    Attributes:
        name: The encoder.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str

    def options(self) -> EncoderOptions:
        """The encoder's options, checked.

        Raises:
            InputError: If there is no such encoder or option, naming the nearest.
        """
        given = self.model_extra or {}
        return parse(ENCODERS.get(self.name).options, given, "backbone.encoder")


def _named(choice: Any) -> Any:
    return {"name": choice} if isinstance(choice, str) else choice


EncoderField = Annotated[EncoderChoice, BeforeValidator(_named)]
"""An encoder in a backbone's options: its name alone, or with options."""


def build_encoder(choice: EncoderChoice, given: SliceShape) -> SliceEncoder:
    """Make an encoder with random weights.

    Raises:
        InputError: If there is no such encoder or option, or the slices do not suit it.

    Example:
        >>> tiny = build_encoder(EncoderChoice(name="cnn", channels=[4, 8]), SliceShape(1, 16, 12))
        >>> tiny(torch.zeros(5, 1, 16, 12)).shape
        torch.Size([5, 8])
    """
    options = choice.options()
    return ENCODERS.get(choice.name).build(options, given)


def demand_slices(name: str, given: SliceShape, smallest: int) -> None:
    """Refuse slices that an encoder shrinks to nothing.

    Raises:
        InputError: With the least that would do.
    """
    if min(given.height, given.width) < smallest:
        msg = (
            f"The encoder {name} needs slices of at least {smallest} × {smallest} pixels, not"
            f" {given.height} × {given.width}."
        )
        raise InputError(msg)
