"""UNETR for abdominal organs, BTCV (Hatamizadeh et al., arXiv 2103.10504)."""

from braintune.models.records.hosts import HASH_UNKNOWN, NOT_PINNED
from braintune.models.weights.record import (
    WEIGHTS,
    Adaptation,
    Conversion,
    ExpectedPreparation,
    Source,
    WeightRecord,
)

WEIGHTS.add(
    WeightRecord(
        backbone="unetr",
        tag="btcv",
        options={"feature_size": 16, "width": 768, "hidden": 3072, "heads": 12},
        summary="segmented 13 abdominal organs in CT of BTCV",
        source=Source(
            url="https://developer.download.nvidia.com/assets/Clara/monai/tutorials"
            "/UNETR_model_best_acc.pth"
        ),
        licence="Apache-2.0",
        citation="Hatamizadeh et al. 2022, arXiv 2103.10504",
        cohorts=("BTCV",),
        prepare=ExpectedPreparation(
            shape=(96, 96, 96),
            words="CT at 1.5 × 1.5 × 2 mm; values from -175 to 250 HU scaled to 0 to 1.",
        ),
        conversion=Conversion(
            unused=(
                r"out\..*",
                r"vit\.patch_embedding\.cls_token",
                r"vit\.blocks\.\d+\.(norm_cross_attn|cross_attn)\..*",
            ),
            steps=("cubes-from-rows",),
        ),
        adaptation=Adaptation(
            first_layer=r"vit\.patch_embedding\.patch_embeddings\.weight"
            r"|encoder1\.layer\.conv[13]\.conv\.weight",
            positions={"vit.patch_embedding.position_embeddings": (0, (6, 6, 6))},
        ),
        quirks=(
            NOT_PINNED,
            HASH_UNKNOWN,
            "its licence is that of MONAI's tutorials, which link it; the file carries none",
        ),
    )
)
