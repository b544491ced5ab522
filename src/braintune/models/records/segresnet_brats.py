"""SegResNet for brain tumours, MONAI's bundle (Myronenko, arXiv 1810.11654)."""

from braintune.models.records.hosts import hugging_face
from braintune.models.weights.record import (
    WEIGHTS,
    Adaptation,
    Conversion,
    ExpectedPreparation,
    WeightRecord,
)

WEIGHTS.add(
    WeightRecord(
        backbone="segresnet",
        tag="brats",
        options={"init_filters": 16, "blocks_down": [1, 2, 2, 4], "blocks_up": [1, 1, 1]},
        summary="segmented the tumours of BraTS 2018; MONAI's bundle brats_mri_segmentation 0.5.4",
        source=hugging_face(
            "MONAI/brats_mri_segmentation",
            "models/model.pt",
            "370f7f9d062745fbac445e7fe6d6616d35df04ec",
            "860ccb3f1c21c99d0410ad8a1ac4ef6b8fab60cec0a503b0ba42675741a750ae",
            18_840_620,
        ),
        licence="Apache-2.0",
        citation="Myronenko 2018, arXiv 1810.11654",
        cohorts=("BraTS 2018",),
        channels=4,
        prepare=ExpectedPreparation(
            spacing=1.0,
            intensity="zscore",
            brain="nonzero",
            words="T1 with contrast, T1, T2 and FLAIR in this order, registered, without skull.",
        ),
        conversion=Conversion(unused=(r"conv_final\.2\..*",)),
        adaptation=Adaptation(first_layer="convInit.conv.weight"),
    )
)
