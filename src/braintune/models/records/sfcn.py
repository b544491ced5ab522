"""SFCN of UK Biobank: brain age and sex (Peng et al., Med. Image Anal. 2021)."""

from braintune.models.records.hosts import HASH_UNKNOWN
from braintune.models.weights.record import (
    WEIGHTS,
    Adaptation,
    Conversion,
    ExpectedPreparation,
    Source,
    WeightRecord,
)

# The commit whose notebook loads both files from where they lie in the repository.
_REVISION = "87bed0a8ff02b0f3c957d484cf151094206e85f1"
_INTENSITY = (
    "intensities divided by their mean are no rule of 'prepare.intensity'; with another rule the"
    " first norm's statistics are off until it is trained"
)
_REPOSITORY = "https://raw.githubusercontent.com/ha-ha-ha-han/UKBiobank_deep_pretrain"


def _register(tag: str, summary: str, file: str, channels: list[int]) -> None:
    WEIGHTS.add(
        WeightRecord(
            backbone="sfcn",
            tag=tag,
            options={"channels": channels, "norm": "batch"},
            summary=summary,
            source=Source(url=f"{_REPOSITORY}/{_REVISION}/{file}", revision=_REVISION),
            licence="MIT",
            citation="Peng et al. 2021, doi 10.1016/j.media.2020.101871",
            cohorts=("UK Biobank",),
            prepare=ExpectedPreparation(
                spacing=1.0,
                shape=(160, 192, 160),
                words="T1w scans of UK Biobank's own pipeline, without skull, registered linearly"
                " to MNI152, divided by their mean over all 182 × 218 × 182 voxels, then cropped"
                " around the centre.",
            ),
            conversion=Conversion(
                strip="module.",
                unused=(r"classifier\..*",),
                rename=((r"feature_extractor\.conv_(\d)\.([01])\.(\w+)", r"blocks.\1.\2.\3"),),
            ),
            adaptation=Adaptation(first_layer="blocks.0.0.weight"),
            quirks=(
                HASH_UNKNOWN,
                _INTENSITY,
                "users could not reproduce its ages on scans that were prepared another way",
            ),
        )
    )


_register(
    "ukb-age",
    "predicted the age of 12,949 people of UK Biobank from T1w scans",
    "brain_age/run_20190719_00_epoch_best_mae.p",
    [32, 64, 128, 256, 256, 64],
)
_register(
    "ukb-sex",
    "predicted the sex of people of UK Biobank from T1w scans",
    "sex_prediction/run_20191008_00_epoch_last.p",
    [28, 58, 128, 256, 256, 64],
)
