"""The Neuroimage Transformer: a small 3D vision transformer (Dhinagar et al., arXiv 2303.08216)."""

from pydantic import PositiveInt

from braintune.models.backbone import (
    BACKBONES,
    Backbone,
    BackboneEntry,
    InputShape,
    demand_multiple,
)
from braintune.models.vit import Plan, ViT, ViTOptions

_PLAN = Plan(qkv_bias=False, position_std=1.0, token_std=1.0, eps=1e-5)


class NiTOptions(ViTOptions):
    """Options of the Neuroimage Transformer; see `ViTOptions`."""

    patch: PositiveInt = 8
    width: PositiveInt = 256
    depth: PositiveInt = 4
    heads: PositiveInt = 8
    hidden: PositiveInt = 234


class ManyHeadsOptions(NiTOptions):
    """Options of the Neuroimage Transformer with more attention heads; see `ViTOptions`.

    The paper does not say how many; these are twice as many, half as long.
    """

    heads: PositiveInt = 16


def _register(name: str, summary: str, options: type[NiTOptions]) -> None:
    def build(chosen: NiTOptions, given: InputShape) -> Backbone:
        demand_multiple(name, given.shape, chosen.patch)
        return ViT(chosen, given, _PLAN)

    BACKBONES.add(
        BackboneEntry(
            name=name,
            family="vit",
            summary=summary,
            paper="Dhinagar et al. 2023, arXiv 2303.08216; Singla et al. 2022, arXiv 2208.04944",
            options=options,
            build=build,
            published=InputShape(1, (64, 64, 64)),
            parameters=1_798_312,
        )
    )


_register("nit", "Neuroimage Transformer: four small blocks on cubes of 8 voxels", NiTOptions)
_register(
    "nit-many-heads", "Neuroimage Transformer with twice the attention heads", ManyHeadsOptions
)
