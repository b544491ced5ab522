"""The encoder of Swin UNETR, from 5,050 CT without labels (Tang et al., CVPR 2022)."""

from braintune.models.records.hosts import HASH_UNKNOWN
from braintune.models.weights.record import (
    WEIGHTS,
    Adaptation,
    Conversion,
    ExpectedPreparation,
    Source,
    WeightRecord,
)

LEGACY_MERGING = (
    "trained with MONAI's first way to merge patches, which takes two of the eight corners twice"
    " and two never"
)

WEIGHTS.add(
    WeightRecord(
        backbone="swinunetr",
        tag="ssl",
        options={"feature_size": 48, "depths": [2, 2, 2, 2], "heads": [3, 6, 12, 24]},
        summary="the encoder alone; inpainted, rotated and contrasted crops of 5,050 CT",
        source=Source(
            url="https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1"
            "/model_swinvit.pt"
        ),
        licence="Apache-2.0",
        citation="Tang et al. 2022, arXiv 2111.14791",
        cohorts=(
            "LUNA16",
            "TCIA COVID-19",
            "TCIA HNSCC",
            "TCIA CT Colonography",
            "TCIA LIDC-IDRI",
        ),
        prepare=ExpectedPreparation(
            shape=(96, 96, 96),
            words="Random crops of CT, whose Hounsfield units from −1000 to 1000 were scaled to"
            " [0, 1].",
        ),
        conversion=Conversion(
            container=("state_dict",),
            strip="module.",
            unused=(r"(rotation_head|contrastive_head|convTrans3d|norm)\..*",),
            rename=(
                (
                    r"(layers\d\.0\.blocks\.\d+\.mlp)\.fc([12])\.(\w+)",
                    r"swinViT.\1.linear\2.\3",
                ),
                (r"(patch_embed|layers\d)\.(.+)", r"swinViT.\1.\2"),
            ),
        ),
        adaptation=Adaptation(
            first_layer="swinViT.patch_embed.proj.weight", new=(r"(encoder|decoder)\d+\..*",)
        ),
        quirks=(
            HASH_UNKNOWN,
            "the coarsest residual block, from which the features come, is not part of the set",
            LEGACY_MERGING,
        ),
    )
)
