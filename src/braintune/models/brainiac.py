"""The vision transformer of BrainIAC (Tak et al., Nat. Neurosci. 2026): its feature is a patch."""

from braintune.models.backbone import (
    BACKBONES,
    Backbone,
    BackboneEntry,
    InputShape,
    demand_multiple,
)
from braintune.models.vit import Plan, ViT, ViTOptions

_PLAN = Plan(class_token=False, qkv_bias=False, eps=1e-5)


def _build(options: ViTOptions, given: InputShape) -> Backbone:
    demand_multiple("brainiac", given.shape, options.patch)
    return ViT(options, given, _PLAN)


BACKBONES.add(
    BackboneEntry(
        name="brainiac",
        family="vit",
        summary="ViT-B/16 without a class token, pre-trained by SimCLR on 32,015 brain MRIs",
        paper="Tak et al. 2026, doi 10.1038/s41593-026-02202-6",
        options=ViTOptions,
        build=_build,
        published=InputShape(1, (96, 96, 96)),
        parameters=88_340_736,
    )
)
