"""BrainIAC: brain MRI by contrast, a transformer and before it a ResNet-50 (Tak et al. 2026)."""

from braintune.models.records.hosts import HASH_UNKNOWN
from braintune.models.weights.record import (
    WEIGHTS,
    Adaptation,
    Conversion,
    ExpectedPreparation,
    Source,
    WeightRecord,
)

_CITATION = "Tak et al. 2026, doi 10.1038/s41593-026-02202-6"
_OVERLAP = (
    "it has seen scans of many public cohorts that the repository lists in a picture alone; look"
    " there before you test on one"
)
_BLOCK = r"backbone\.blocks\.(\d+)\."

WEIGHTS.add(
    WeightRecord(
        backbone="brainiac",
        tag="simclr",
        options={"patch": 16, "width": 768, "depth": 12, "heads": 12, "hidden": 3072},
        summary="learned by contrast on 32,015 brain MRIs of 16 data sets, of four sequences",
        source=Source(
            url="https://www.dropbox.com/scl/fo/i51xt63roognvt7vuslbl/AMblt6reQVvlSrORTB3_2lE"
            "/BrainIAC.ckpt?rlkey=9w55le6tslwxlfz6c0viylmjb&dl=1",
            sha256="f22bdbcae26823a9d9e8aee883c6f24386ba4617339c12269848b6666cc62693",
        ),
        licence="BrainIAC licence of Mass General Brigham (non-commercial academic research)",
        non_commercial=True,
        citation=_CITATION,
        cohorts=("BrainIAC pre-training, 16 data sets",),
        prepare=ExpectedPreparation(
            shape=(96, 96, 96),
            intensity="zscore",
            brain="nonzero",
            words="Registered rigidly to a template, bias-corrected, stripped by HD-BET, then the"
            " whole grid resized to 96 × 96 × 96 voxels, so that spacing differs by axis.",
        ),
        conversion=Conversion(
            container=("state_dict",),
            unused=(r"projection_head\..*", r".*\.(norm_)?cross_attn\..*"),
            rename=(
                (r"backbone\.patch_embedding\.patch_embeddings\.(\w+)", r"patch_embed.\1"),
                (r"backbone\.patch_embedding\.position_embeddings", "pos_embed"),
                (_BLOCK + r"mlp\.linear([12])\.(\w+)", r"blocks.\1.fc\2.\3"),
                (_BLOCK + r"attn\.out_proj\.(\w+)", r"blocks.\1.attn.proj.\2"),
                (_BLOCK + r"(attn\.qkv|norm[12])\.(\w+)", r"blocks.\1.\2.\3"),
                (r"backbone\.norm\.(\w+)", r"norm.\1"),
            ),
        ),
        adaptation=Adaptation(
            first_layer="patch_embed.weight", positions={"pos_embed": (0, (6, 6, 6))}
        ),
        quirks=(
            "its feature is the token of the first patch, a corner of the grid, as published",
            "the hash is the one that users of the file report; its host tells none",
            _OVERLAP,
        ),
    )
)
WEIGHTS.add(
    WeightRecord(
        backbone="brainiac-resnet50",
        tag="simclr",
        options={"width": 64},
        summary="learned by contrast on brain MRIs; the first release, a ResNet-50",
        source=Source(
            manual="Accept the licence at https://huggingface.co/Divytak/brainiac and take the"
            " checkpoint of the first release (2025) from there or from the folder that the README"
            " of https://github.com/AIM-KannLab/BrainIAC of that time links to. The file of that"
            " name in the folder today is the transformer, which is another set."
        ),
        licence="CC-BY-NC-4.0",
        non_commercial=True,
        citation=_CITATION,
        cohorts=("BrainIAC pre-training, 16 data sets",),
        prepare=ExpectedPreparation(
            shape=(128, 128, 128),
            intensity="minmax",
            brain="nonzero",
            words="Registered, bias-corrected by N4, stripped by HD-BET, then resized to 128 × 128"
            " × 128 voxels.",
        ),
        conversion=Conversion(
            container=("state_dict",),
            unused=(r"(?!backbone\.).*", r"backbone\.fc\..*"),
            rename=((r"backbone\.(.+)", r"\1"),),
        ),
        adaptation=Adaptation(first_layer="conv1.weight"),
        quirks=(HASH_UNKNOWN, _OVERLAP),
    )
)
