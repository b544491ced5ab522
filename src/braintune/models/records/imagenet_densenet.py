"""DenseNet-121 of ImageNet, inflated (Huang et al. 2017; weights of torchvision)."""

from braintune.models.records.hosts import IMAGENET_TERMS, TORCHVISION_TERMS, torchvision
from braintune.models.records.imagenet_resnets import IMAGENET_PREPARE
from braintune.models.weights.record import WEIGHTS, Adaptation, Conversion, WeightRecord

WEIGHTS.add(
    WeightRecord(
        backbone="densenet121",
        tag="imagenet",
        summary="classified photographs of ImageNet-1k; kernels inflated along x",
        source=torchvision("densenet121-a639ec97.pth"),
        licence="BSD-3-Clause",
        citation="Huang et al. 2017, arXiv 1608.06993; Russakovsky et al. 2015, arXiv 1409.0575",
        cohorts=("ImageNet-1k",),
        channels=3,
        prepare=IMAGENET_PREPARE,
        conversion=Conversion(
            unused=(r"classifier\..*",),
            # The file still has the old names of its layers, such as ``norm.1``.
            rename=(
                (
                    r"(features\.denseblock\d\.denselayer\d+)\.(norm|conv)\.?([12])\.(\w+)",
                    r"\1.layers.\2\3.\4",
                ),
            ),
        ),
        adaptation=Adaptation(first_layer="features.conv0.weight", inflate=True),
        quirks=(TORCHVISION_TERMS, IMAGENET_TERMS),
    )
)
