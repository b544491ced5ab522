"""ResNets of ImageNet, inflated (He et al. 2016; weights of torchvision)."""

from braintune.models.records.hosts import IMAGENET_TERMS, TORCHVISION_TERMS, torchvision
from braintune.models.weights.record import (
    WEIGHTS,
    Adaptation,
    Conversion,
    ExpectedPreparation,
    WeightRecord,
)

IMAGENET_PREPARE = ExpectedPreparation(
    words="Photographs of 224 × 224 pixels in red, green and blue, scaled to [0, 1], then less"
    " (0.485, 0.456, 0.406) and divided by (0.229, 0.224, 0.225)."
)


def _register(depth: int, file: str) -> None:
    WEIGHTS.add(
        WeightRecord(
            backbone=f"resnet{depth}",
            tag="imagenet",
            options={"output_stride": 32, "shortcut": "B"},
            summary="classified photographs of ImageNet-1k; kernels inflated along x",
            source=torchvision(file),
            licence="BSD-3-Clause",
            citation="He et al. 2016, arXiv 1512.03385; Russakovsky et al. 2015, arXiv 1409.0575",
            cohorts=("ImageNet-1k",),
            channels=3,
            prepare=IMAGENET_PREPARE,
            conversion=Conversion(unused=(r"fc\..*",)),
            adaptation=Adaptation(first_layer="conv1.weight", inflate=True),
            quirks=(TORCHVISION_TERMS, IMAGENET_TERMS),
        )
    )


_register(18, "resnet18-f37072fd.pth")
_register(34, "resnet34-b627a593.pth")
_register(50, "resnet50-11ad3fa6.pth")
_register(101, "resnet101-cd907fc2.pth")
