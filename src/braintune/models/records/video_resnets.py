"""ResNets of videos that told Kinetics-400's actions apart (Tran et al., arXiv 1711.11248)."""

from braintune.models.records.hosts import TORCHVISION_TERMS, torchvision
from braintune.models.weights.record import (
    WEIGHTS,
    Adaptation,
    Conversion,
    ExpectedPreparation,
    WeightRecord,
)

_PREPARE = ExpectedPreparation(
    words="Clips of 16 frames of 112 × 112 pixels in red, green and blue, scaled to [0, 1], then"
    " less (0.432, 0.395, 0.376) and divided by (0.228, 0.221, 0.217)."
)


def _register(backbone: str, file: str) -> None:
    WEIGHTS.add(
        WeightRecord(
            backbone=backbone,
            tag="kinetics400",
            options={"width": 64},
            summary="told the 400 actions of Kinetics apart",
            source=torchvision(file),
            licence="BSD-3-Clause",
            citation="Tran et al. 2018, arXiv 1711.11248; Kay et al. 2017, arXiv 1705.06950",
            cohorts=("Kinetics-400",),
            channels=3,
            prepare=_PREPARE,
            conversion=Conversion(unused=(r"fc\..*",)),
            adaptation=Adaptation(first_layer="stem.0.weight"),
            quirks=(TORCHVISION_TERMS,),
        )
    )


_register("r3d18", "r3d_18-b3b3357e.pth")
_register("mc3-18", "mc3_18-a90a0ba3.pth")
_register("r2plus1d18", "r2plus1d_18-91a641e6.pth")
