"""MedicalNet: 3D ResNets that learned to segment many organs (Chen et al., arXiv 1904.00625)."""

from braintune.models.records.hosts import hugging_face
from braintune.models.weights.record import (
    WEIGHTS,
    Adaptation,
    Conversion,
    ExpectedPreparation,
    Source,
    WeightRecord,
)

_CITATION = "Chen et al. 2019, arXiv 1904.00625"
_PREPARE = ExpectedPreparation(
    intensity="zscore",
    brain="nonzero",
    words="The published code z-scores each scan over its voxels above zero, fills the voxels that"
    " are zero with noise of mean 0 and standard deviation 1, and resizes the scan to one shape"
    " whatever its spacing.",
)
_GEOMETRY = (
    "the last two stages are dilated instead of strided (output_stride: 8); networks that stride"
    " there, such as MONAI's, take the same tensors and compute another function"
)
_UNNAMED = "15 of the 23 data sets are not named by the publication"


def _register(depth: int, source: Source, cohorts: tuple[str, ...], *quirks: str) -> None:
    WEIGHTS.add(
        WeightRecord(
            backbone=f"resnet{depth}",
            tag="medicalnet",
            options={"output_stride": 8},
            summary="learned to segment organs and lesions of many data sets, CT and MRI",
            source=source,
            licence="MIT",
            citation=_CITATION,
            cohorts=cohorts,
            prepare=_PREPARE,
            conversion=Conversion(
                container=("state_dict",), strip="module.", unused=(r"conv_seg\..*",)
            ),
            adaptation=Adaptation(first_layer="conv1.weight"),
            quirks=(_GEOMETRY, *quirks),
        )
    )


_MANY = ("3DSeg-8", "MedicalNet 23 data sets")
_register(
    10,
    hugging_face(
        "TencentMedicalNet/MedicalNet-Resnet10",
        "resnet_10_23dataset.pth",
        "4a4b0ef72be0ddf85a2c0720e0a4855c8ac0f0a8",
        "afa8055f3e47f4a18239495d92a7abc587902c69c31c743de2b2784653b72605",
    ),
    _MANY,
    _UNNAMED,
)
_register(
    18,
    hugging_face(
        "TencentMedicalNet/MedicalNet-Resnet18",
        "resnet_18_23dataset.pth",
        "758fe285bc8ab565eb4f9f965810f1d1a3f79491",
        "61224f9317fcce873366deb3703183e92cc47325b726b69691b33536244e10f4",
        131_992_196,
    ),
    _MANY,
    _UNNAMED,
)
_register(
    34,
    hugging_face(
        "TencentMedicalNet/MedicalNet-Resnet34",
        "resnet_34_23dataset.pth",
        "38043c1af39ac39e70de7c92a4af8013eb275b31",
        "3ea7188e396774e4ef95b66e5e90a78273bb33f6e58d3d717bf24f5f1aaeaa28",
        253_276_232,
    ),
    _MANY,
    _UNNAMED,
)
_register(
    50,
    hugging_face(
        "TencentMedicalNet/MedicalNet-Resnet50",
        "resnet_50_23dataset.pth",
        "7cd767ef5bbc0bf26e691b04bc0d25df6d3cbc4b",
        "ff48a62219073fb977fd3f4ddfb8dc1367f0ec156c8d6f6c37e205bd683a246e",
        184_885_051,
    ),
    _MANY,
    _UNNAMED,
)
_register(
    101,
    hugging_face(
        "TencentMedicalNet/MedicalNet-Resnet101",
        "resnet_101.pth",
        "7609a48246ec6bdd4ed2d2ad4f48fac05978ba67",
        "a26bbcf9b2ad35f048b0fa317234c003f171a4d719760e5c4aff9f793654ebcf",
        341_330_267,
    ),
    ("3DSeg-8",),
    "for this depth there is only the set of the 8 data sets of the paper, not that of 23",
)
