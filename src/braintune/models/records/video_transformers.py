"""Transformers of videos that torchvision took over: MViTv2-S and Video Swin-T."""

from braintune.models.records.hosts import TORCHVISION_TERMS, torchvision
from braintune.models.weights.record import (
    WEIGHTS,
    Adaptation,
    Conversion,
    ExpectedPreparation,
    WeightRecord,
)

WEIGHTS.add(
    WeightRecord(
        backbone="mvit-v2-s",
        tag="kinetics400",
        options={"width": 96, "heads": 1, "depths": [1, 2, 11, 2]},
        summary="told the 400 actions of Kinetics apart",
        source=torchvision("mvit_v2_s-ae3be167.pth"),
        licence="BSD-3-Clause",
        citation="Li et al. 2022, arXiv 2112.01526; Kay et al. 2017, arXiv 1705.06950",
        cohorts=("Kinetics-400",),
        channels=3,
        prepare=ExpectedPreparation(
            words="Clips of 16 frames of 224 × 224 pixels in red, green and blue, scaled to [0, 1],"
            " then less 0.45 and divided by 0.225."
        ),
        conversion=Conversion(
            unused=(r"head\..*",), rename=((r"pos_encoding\.class_token", "class_token"),)
        ),
        adaptation=Adaptation(
            first_layer="conv_proj.weight", relative=r"blocks\.\d+\.attn\.rel_pos_[thw]"
        ),
        quirks=(TORCHVISION_TERMS, "made by facebookresearch/SlowFast, which is Apache-2.0"),
    )
)
WEIGHTS.add(
    WeightRecord(
        backbone="swin3d-t",
        tag="kinetics400",
        options={
            "width": 96,
            "depths": [2, 2, 6, 2],
            "heads": [3, 6, 12, 24],
            "window": [8, 7, 7],
        },
        summary="told the 400 actions of Kinetics apart, after ImageNet-1k",
        source=torchvision("swin3d_t-7615ae03.pth"),
        licence="BSD-3-Clause",
        citation="Liu et al. 2022, arXiv 2106.13230; Kay et al. 2017, arXiv 1705.06950",
        cohorts=("Kinetics-400", "ImageNet-1k"),
        channels=3,
        prepare=ExpectedPreparation(
            words="Clips of 32 frames of 224 × 224 pixels in red, green and blue, scaled to [0, 1],"
            " then less (0.485, 0.456, 0.406) and divided by (0.229, 0.224, 0.225)."
        ),
        conversion=Conversion(unused=(r"head\..*", r".*\.relative_position_index")),
        adaptation=Adaptation(first_layer="patch_embed.proj.weight"),
        quirks=(
            TORCHVISION_TERMS,
            "made by SwinTransformer/Video-Swin-Transformer, which is Apache-2.0",
        ),
    )
)
