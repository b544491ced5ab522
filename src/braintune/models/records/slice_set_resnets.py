"""Slice-set networks whose 2D encoder is a ResNet of ImageNet (Gupta et al., arXiv 2303.01491)."""

from typing import Any

from braintune.models.records.hosts import IMAGENET_TERMS, TORCHVISION_TERMS, torchvision
from braintune.models.records.imagenet_resnets import IMAGENET_PREPARE
from braintune.models.weights.record import WEIGHTS, Adaptation, Conversion, WeightRecord

# What comes after the encoder of a slice is not part of its weights.
REST_OF_SLICE_SET = (r"(neck|aggregation)\..*",)
SHOWN_GREY = (
    "a grey slice is shown in all three colours; without 'encoder: {normalise: imagenet}' its"
    " intensities are not those of photographs, as in Gupta et al. 2023"
)


def _register(backbone: str, tag: str, options: dict[str, Any], file: str) -> None:
    WEIGHTS.add(
        WeightRecord(
            backbone=backbone,
            tag=tag,
            options=options,
            summary="the encoder of slices classified photographs of ImageNet-1k",
            source=torchvision(file),
            licence="BSD-3-Clause",
            citation="He et al. 2016, arXiv 1512.03385; on slices Gupta et al. 2023,"
            " arXiv 2303.01491",
            cohorts=("ImageNet-1k",),
            channels=3,
            prepare=IMAGENET_PREPARE,
            conversion=Conversion(unused=(r"fc\..*",), rename=((r"(.+)", r"encoder.network.\1"),)),
            adaptation=Adaptation(
                first_layer="encoder.network.conv1.weight", new=REST_OF_SLICE_SET
            ),
            quirks=(SHOWN_GREY, TORCHVISION_TERMS, IMAGENET_TERMS),
        )
    )


_RESNET18, _RESNET50 = "resnet18-f37072fd.pth", "resnet50-11ad3fa6.pth"
_register("slice-set", "imagenet-resnet18", {"encoder": "resnet18"}, _RESNET18)
_register("slice-set", "imagenet-resnet50", {"encoder": "resnet50"}, _RESNET50)
_register("slice-set-resnet18", "imagenet", {"encoder": "resnet18"}, _RESNET18)
