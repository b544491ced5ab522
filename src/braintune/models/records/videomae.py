"""VideoMAE: videos filled in where they were masked (Tong et al., arXiv 2203.12602)."""

from braintune.models.records.hosts import HASH_UNKNOWN, hugging_face
from braintune.models.weights.record import (
    WEIGHTS,
    Adaptation,
    Conversion,
    ExpectedPreparation,
    Source,
    WeightRecord,
)

_BLOCK = r"videomae\.encoder\.layer\.(\d+)\."
_RENAME = (
    (r"videomae\.embeddings\.patch_embeddings\.projection\.(\w+)", r"patch_embed.\1"),
    (
        _BLOCK + r"attention\.attention\.([qkv])(?:uery|ey|alue)\.weight",
        r"blocks.\1.attn.\2.weight",
    ),
    (_BLOCK + r"attention\.attention\.([qv])_bias", r"blocks.\1.attn.\2.bias"),
    (_BLOCK + r"attention\.output\.dense\.(\w+)", r"blocks.\1.attn.proj.\2"),
    (_BLOCK + r"intermediate\.dense\.(\w+)", r"blocks.\1.fc1.\2"),
    (_BLOCK + r"output\.dense\.(\w+)", r"blocks.\1.fc2.\2"),
    (_BLOCK + r"layernorm_before\.(\w+)", r"blocks.\1.norm1.\2"),
    (_BLOCK + r"layernorm_after\.(\w+)", r"blocks.\1.norm2.\2"),
    (r"(?:fc_norm|videomae\.layernorm)\.(\w+)", r"norm.\1"),
)
_FINE_TUNED = "488eb9a0565f257b32866000305c8178965eb9f6"


def _register(
    tag: str, summary: str, source: Source, unused: tuple[str, ...], quirks: tuple[str, ...]
) -> None:
    WEIGHTS.add(
        WeightRecord(
            backbone="videomae",
            tag=tag,
            options={
                "patch": 16,
                "tubelet": 2,
                "width": 768,
                "depth": 12,
                "heads": 12,
                "hidden": 3072,
            },
            summary=summary,
            source=source,
            licence="CC-BY-NC-4.0",
            non_commercial=True,
            citation="Tong et al. 2022, arXiv 2203.12602; Kay et al. 2017, arXiv 1705.06950",
            cohorts=("Kinetics-400",),
            channels=3,
            prepare=ExpectedPreparation(
                words="Clips of 16 frames of 224 × 224 pixels in red, green and blue, scaled to"
                " [0, 1], then less (0.485, 0.456, 0.406) and divided by (0.229, 0.224, 0.225)."
            ),
            conversion=Conversion(unused=unused, rename=_RENAME, steps=("fuse-qkv",)),
            adaptation=Adaptation(first_layer="patch_embed.weight"),
            quirks=quirks,
        )
    )


_register(
    "kinetics400",
    "filled in masked videos, then told the 400 actions of Kinetics apart",
    Source(
        url="https://huggingface.co/MCG-NJU/videomae-base-finetuned-kinetics/resolve"
        f"/{_FINE_TUNED}/model.safetensors",
        revision=_FINE_TUNED,
    ),
    (r"classifier\..*",),
    (HASH_UNKNOWN,),
)
_register(
    "pretrained",
    "filled in masked videos of Kinetics",
    hugging_face(
        "MCG-NJU/videomae-base",
        "model.safetensors",
        "dc740ceda42fce44faed2ea03c6d447db72f6af9",
        "bc053ca2840a038b1068269a4eec06ca569689e9a1ed9376a5b2b8a111be5290",
        376_873_760,
    ),
    (r"mask_token", r"encoder_to_decoder\..*", r"decoder\..*"),
    ("the last norm was trained on each token and is applied to their mean here",),
)
