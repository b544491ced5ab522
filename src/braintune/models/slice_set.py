"""Slice-set networks (Gupta et al., arXiv 2303.01491): a scan as the set of its 2D slices.

A 2D encoder gives each slice a vector, which is reduced to a few features; the positions of slices
may be added; and the mean, the maximum or attention makes the set one vector.
"""

from collections import OrderedDict
from typing import Literal, Self

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import nn

from braintune.models.backbone import (
    BACKBONES,
    Backbone,
    BackboneEntry,
    BackboneOptions,
    InputShape,
)
from braintune.models.encoders.encoder import (
    EncoderChoice,
    EncoderField,
    SliceEncoder,
    build_encoder,
)
from braintune.models.encoders.slice_cnn import (
    SliceCNN,
    initialise_pointwise,
    initialise_published,
)
from braintune.models.slice_aggregation import SliceAttention, SliceMax, SliceMean
from braintune.models.slice_positions import LearnedPositions, ResizedPositions
from braintune.models.slices import (
    Plane,
    count_slices,
    encode_slices,
    encoder_stages,
    slice_shape,
)

_PUBLISHED_DROPOUT = 0.5


class SliceSetOptions(BackboneOptions):
    """Options of the slice-set networks.

    Attributes:
        plane: Sagittal slices lie along x, coronal along y and axial along z.
        encoder: The encoder of one slice: its name, or ``{name: …}`` with its own options.
        features: Features of a slice, and of a scan.
        aggregate: How slices become one vector: their ``mean``, ``max``, or ``attention`` of one
            learned query.
        positions: ``learned`` as published, for a fixed number of slices; ``resized`` the same, but
            interpolated where there are more or fewer slices; ``none``.
        dropout: Share of the encoder's features dropped before they are reduced; by default as
            published, 0.5 after the encoder ``cnn`` and none after others.
    """

    plane: Plane = "sagittal"
    encoder: EncoderField = EncoderChoice(name="cnn")
    features: PositiveInt = 32
    aggregate: Literal["mean", "max", "attention"] = "mean"
    positions: Literal["none", "learned", "resized"] = "none"
    dropout: float | None = Field(None, ge=0, lt=1)

    @model_validator(mode="after")
    def _known_encoder(self) -> Self:
        self.encoder.options()
        return self


class ResNetSliceSetOptions(SliceSetOptions):
    """Options of the slice-set network of a 2D ResNet-18; see `SliceSetOptions`."""

    encoder: EncoderField = EncoderChoice(name="resnet18")


class SliceSet(Backbone):
    """An encoder of slices, a neck that reduces and places them, and an aggregation.

    As published, positions are added before the reduction where the encoder is the paper's own, and
    after it otherwise.

    Args:
        options: Which plane, encoder, positions and aggregation.
        given: The input; without learned positions the number of slices may differ from it.
    """

    def __init__(self, options: SliceSetOptions, given: InputShape) -> None:
        super().__init__()
        self.n_features = options.features
        self.plane: Plane = options.plane
        self.encoder = build_encoder(options.encoder, slice_shape(given, options.plane))
        self.neck = _make_neck(options, self.encoder, count_slices(given, options.plane))
        self.aggregation = _AGGREGATIONS[options.aggregate](options.features)
        if isinstance(self.encoder, SliceCNN):
            initialise_published(self.aggregation)
        self.token_grids = {f"encoder.{key}": g for key, g in self.encoder.token_grids.items()}
        for name, part in self.neck.named_children():
            if isinstance(part, LearnedPositions):
                self.token_grids |= {f"neck.{name}.{k}": g for k, g in part.token_grids().items()}

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """From (batch, channels, x, y, z) to (batch, n_features)."""
        slices = self.neck(encode_slices(self.encoder, images, self.plane))
        features: torch.Tensor = self.aggregation(slices)
        return features

    def stages(self) -> list[tuple[str, ...]]:
        """The encoder's, then reduction and positions in their order, then the aggregation."""
        neck = [(f"neck.{name}",) for name, _ in self.neck.named_children()]
        return [*encoder_stages(self.encoder), *neck, ("aggregation",)]


_AGGREGATIONS = {
    "mean": lambda _features: SliceMean(),
    "max": lambda _features: SliceMax(),
    "attention": SliceAttention,
}
_POSITIONS = {"learned": LearnedPositions, "resized": ResizedPositions}


def _make_neck(options: SliceSetOptions, encoder: SliceEncoder, slices: int) -> nn.Sequential:
    """From (batch, slices, encoder's features) to (batch, slices, features)."""
    is_papers_own = isinstance(encoder, SliceCNN)
    rate = options.dropout
    if rate is None:
        rate = _PUBLISHED_DROPOUT if is_papers_own else 0.0
    reduction = nn.Linear(encoder.n_features, options.features)
    if is_papers_own:
        initialise_pointwise(reduction)
    parts: list[tuple[str, nn.Module]] = [("dropout", nn.Dropout(rate)), ("reduction", reduction)]
    if options.positions != "none":
        width = encoder.n_features if is_papers_own else options.features
        positions = _POSITIONS[options.positions](slices, width)
        parts.insert(0 if is_papers_own else len(parts), ("positions", positions))
    return nn.Sequential(OrderedDict(parts))


def published_head(backbone: Backbone) -> nn.Module:
    """The head that the slice networks were published with, for one output."""
    return nn.Sequential(nn.Linear(backbone.n_features, 64), nn.ReLU(), nn.Linear(64, 1))


def _register(name: str, summary: str, options: type[SliceSetOptions], parameters: int) -> None:
    BACKBONES.add(
        BackboneEntry(
            name=name,
            family="slice-set",
            summary=summary,
            paper="Gupta et al. 2023, arXiv 2303.01491",
            options=options,
            build=SliceSet,
            published=InputShape(1, (91, 109, 91)),
            parameters=parameters,
            head=published_head,
        )
    )


_register(
    "slice-set",
    "set of 2D slices with any 2D encoder; a small CNN by default",
    SliceSetOptions,
    998_625,
)
_register(
    "slice-set-resnet18",
    "set of 2D slices with the ResNet-18 of ImageNet",
    ResNetSliceSetOptions,
    11_195_105,
)
