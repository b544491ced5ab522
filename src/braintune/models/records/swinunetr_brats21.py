"""Swin UNETR for brain tumours, BraTS 2021 (Hatamizadeh et al. 2022)."""

from braintune.models.records.swinunetr_ssl import LEGACY_MERGING
from braintune.models.weights.record import (
    WEIGHTS,
    Adaptation,
    Conversion,
    ExpectedPreparation,
    Source,
    WeightRecord,
)

_ARCHIVE = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1"
    "/fold0_f48_ep300_4gpu_dice0_8854.zip"
)

WEIGHTS.add(
    WeightRecord(
        backbone="swinunetr",
        tag="brats21",
        options={"feature_size": 48, "depths": [2, 2, 2, 2], "heads": [3, 6, 12, 24]},
        summary="segmented the tumours of BraTS 2021; fold 0 of 5, mean Dice 0.885",
        source=Source(
            sha256="1083e1585263a739",
            size=256_368_326,
            manual=f"Download {_ARCHIVE}, unzip it, and take its model.pt.",
        ),
        licence="Apache-2.0",
        citation="Hatamizadeh et al. 2022, arXiv 2201.01266",
        cohorts=("BraTS 2021",),
        channels=4,
        prepare=ExpectedPreparation(
            spacing=1.0,
            shape=(128, 128, 128),
            intensity="zscore",
            brain="nonzero",
            words="Random crops of FLAIR, T1 with contrast, T1 and T2 in this order, registered,"
            " without skull.",
        ),
        conversion=Conversion(container=("state_dict",), unused=(r"out\..*",)),
        adaptation=Adaptation(
            first_layer=r"swinViT\.patch_embed\.proj\.weight"
            r"|encoder1\.layer\.conv[13]\.conv\.weight"
        ),
        quirks=(
            "size and hash are those of the unpacked file, as a user of it reports",
            LEGACY_MERGING,
        ),
    )
)
