"""3D ResNets that were published with weights and in one geometry: FMCIB, AnatCL, BrainIAC 2025."""

from collections.abc import Callable
from dataclasses import replace

from pydantic import PositiveInt, create_model

from braintune.models.backbone import (
    BACKBONES,
    Backbone,
    BackboneEntry,
    BackboneOptions,
    InputShape,
    demand_at_least,
)
from braintune.models.resnet import BasicBlock, Bottleneck, Geometry, ResNet


class FixedResNetOptions(BackboneOptions):
    """Options of a ResNet of fixed geometry.

    Attributes:
        width: Channels of the first stage.
    """

    width: PositiveInt


def _options(geometry: Geometry) -> type[FixedResNetOptions]:
    """The options with the published width as default."""
    return create_model(
        "FixedResNetOptions",
        __base__=FixedResNetOptions,
        __doc__=FixedResNetOptions.__doc__,
        width=(PositiveInt, geometry.width),
    )


def _builder(name: str, geometry: Geometry) -> Callable[[FixedResNetOptions, InputShape], Backbone]:
    def build(options: FixedResNetOptions, given: InputShape) -> Backbone:
        demand_at_least(name, given.shape, 16)
        return ResNet(replace(geometry, width=options.width), given.channels)

    return build


_FMCIB = Geometry(Bottleneck, (3, 4, 6, 3), width=128, shortcut_bias=True)
_ANATCL = Geometry(BasicBlock, (2, 2, 2, 2))
_BRAINIAC = Geometry(Bottleneck, (3, 4, 6, 3), shortcut_bias=True)

BACKBONES.add(
    BackboneEntry(
        name="fmcib",
        family="resnet",
        summary="wide 3D ResNet-50×2 of the cancer imaging foundation model, pre-trained on CT",
        paper="Pai et al. 2024, doi 10.1038/s42256-024-00807-9",
        options=_options(_FMCIB),
        build=_builder("fmcib", _FMCIB),
        published=InputShape(1, (50, 50, 50)),
        parameters=184_477_824,
    )
)
BACKBONES.add(
    BackboneEntry(
        name="anatcl",
        family="resnet",
        summary="3D ResNet-18 pre-trained with age and anatomy on grey-matter maps of OpenBHB",
        paper="Barbano et al. 2024, arXiv 2408.07079",
        options=_options(_ANATCL),
        build=_builder("anatcl", _ANATCL),
        published=InputShape(1, (121, 128, 121)),
        parameters=33_160_000,
    )
)
BACKBONES.add(
    BackboneEntry(
        name="brainiac-resnet50",
        family="resnet",
        summary="3D ResNet-50 of the first release of BrainIAC",
        paper="Tak et al. 2026, doi 10.1038/s41593-026-02202-6",
        options=_options(_BRAINIAC),
        build=_builder("brainiac-resnet50", _BRAINIAC),
        published=InputShape(1, (128, 128, 128)),
        parameters=46_158_912,
    )
)
