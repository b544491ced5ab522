"""AnatCL: grey matter by contrast of age and anatomy (Barbano et al., arXiv 2408.07079)."""

from braintune.models.records.hosts import HASH_UNKNOWN, NOT_PINNED
from braintune.models.weights.record import (
    WEIGHTS,
    Adaptation,
    Conversion,
    ExpectedPreparation,
    Source,
    WeightRecord,
)

_FOLDS = 5
_HOST = "https://gitlab.di.unito.it/barbano/anatcl-pretrained/-/raw/main"
_VARIANTS = {
    "global": ("g3", "all regions' thickness, volume and area at once"),
    "local": ("l3", "thickness, volume and area region by region"),
}


def _register(variant: str, fold: int) -> None:
    folder, anatomy = _VARIANTS[variant]
    WEIGHTS.add(
        WeightRecord(
            backbone="anatcl",
            tag=f"{variant}-fold{fold}",
            options={"width": 64},
            summary=f"learned by contrast of age and {anatomy}; without fold {fold} of {_FOLDS}",
            source=Source(url=f"{_HOST}/resnet18-anatcl-{folder}/fold{fold}.pth"),
            licence="MIT",
            citation="Barbano et al. 2024, arXiv 2408.07079",
            cohorts=("OpenBHB",),
            prepare=ExpectedPreparation(
                spacing=1.5,
                shape=(121, 128, 121),
                intensity="none",
                brain="whole",
                words="Maps of grey matter of CAT12's voxel-based morphometry, cropped around the"
                " centre from 121 × 145 × 121 voxels; no T1w scans.",
            ),
            conversion=Conversion(
                container=("model",),
                unused=(r"head\..*",),
                rename=((r"encoder\.(.+)", r"\1"),),
            ),
            adaptation=Adaptation(first_layer="conv1.weight"),
            quirks=(
                HASH_UNKNOWN,
                NOT_PINNED,
                "which subjects the folds leave out is not published with the weights",
            ),
        )
    )


for _variant in _VARIANTS:
    for _fold in range(_FOLDS):
        _register(_variant, _fold)
