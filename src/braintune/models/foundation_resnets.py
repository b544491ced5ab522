"""3D ResNets that were published with weights and in one geometry: FMCIB, AnatCL, BrainIAC 2025."""

from dataclasses import replace

from pydantic import PositiveInt

from braintune.models.backbone import (
    BACKBONES,
    Backbone,
    BackboneEntry,
    BackboneOptions,
    InputShape,
    demand_at_least,
)
from braintune.models.resnet import BasicBlock, Bottleneck, Geometry, ResNet


def _register(
    name: str, summary: str, paper: str, geometry: Geometry, edges: tuple[int, int, int]
) -> None:
    class Options(BackboneOptions):
        """Options of a ResNet of fixed geometry.

        Attributes:
            width: Channels of the first stage.
        """

        width: PositiveInt = geometry.width

    def build(options: Options, given: InputShape) -> Backbone:
        demand_at_least(name, given.shape, 16)
        return ResNet(replace(geometry, width=options.width), given.channels)

    BACKBONES.add(
        BackboneEntry(
            name=name,
            family="resnet",
            summary=summary,
            paper=paper,
            options=Options,
            build=build,
            published=InputShape(1, edges),
        )
    )


_register(
    "fmcib",
    "wide 3D ResNet-50×2 of the cancer imaging foundation model, pre-trained on CT",
    "Pai et al. 2024, doi 10.1038/s42256-024-00807-9",
    Geometry(Bottleneck, (3, 4, 6, 3), width=128, shortcut_bias=True),
    (50, 50, 50),
)
_register(
    "anatcl",
    "3D ResNet-18 pre-trained with age and anatomy on grey-matter maps of OpenBHB",
    "Barbano et al. 2024, arXiv 2408.07079",
    Geometry(BasicBlock, (2, 2, 2, 2)),
    (121, 128, 121),
)
_register(
    "brainiac-resnet50",
    "3D ResNet-50 of the first release of BrainIAC",
    "Tak et al. 2026, doi 10.1038/s41593-026-02202-6",
    Geometry(Bottleneck, (3, 4, 6, 3), shortcut_bias=True),
    (128, 128, 128),
)
