"""FMCIB: a ResNet-50×2 that told CT lesions apart (Pai et al., Nat. Mach. Intell. 2024)."""

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
        backbone="fmcib",
        tag="deeplesion",
        options={"width": 128},
        summary="learned by contrast on crops around 11,467 CT lesions of 2,312 patients",
        source=Source(
            url="https://zenodo.org/records/10528450/files/model_weights.torch?download=1",
            sha256="8cc92ec452d1099a6de6bbfdb9e124c79d750e513a86ce6be6d91d187aca4bc2",
        ),
        licence="MIT",
        citation="Pai et al. 2024, doi 10.1038/s42256-024-00807-9",
        cohorts=("DeepLesion",),
        prepare=ExpectedPreparation(
            spacing=1.0,
            shape=(50, 50, 50),
            words="Crops of CT around a lesion, in Hounsfield units plus 1024, divided by 3072.",
        ),
        conversion=Conversion(container=("trunk_state_dict",)),
        adaptation=Adaptation(first_layer="conv1.weight"),
        quirks=("the hash is the one that users of the file report; its host tells none",),
    )
)
