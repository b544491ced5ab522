"""ViT-B/16 of ImageNet-21k, inflated (Dosovitskiy et al., arXiv 2010.11929)."""

from braintune.models.records.hosts import IMAGENET_TERMS, hugging_face
from braintune.models.weights.record import (
    WEIGHTS,
    Adaptation,
    Conversion,
    ExpectedPreparation,
    WeightRecord,
)

_BLOCK = r"encoder\.layer\.(\d+)\."

WEIGHTS.add(
    WeightRecord(
        backbone="vit",
        tag="imagenet",
        options={"patch": 16, "width": 768, "depth": 12, "heads": 12, "hidden": 3072},
        summary="classified the photographs of ImageNet-21k; patches inflated along x",
        source=hugging_face(
            "google/vit-base-patch16-224-in21k",
            "model.safetensors",
            "b4569560a39a0f1af58e3ddaf17facf20ab919b0",
            "fd4e1169c7aa6c2dbfa8a6448be13b35abc0ee256190857c90009d12c094619b",
        ),
        licence="Apache-2.0",
        citation="Dosovitskiy et al. 2021, arXiv 2010.11929",
        cohorts=("ImageNet-21k",),
        channels=3,
        prepare=ExpectedPreparation(
            words="Photographs of 224 × 224 pixels in red, green and blue, scaled to [−1, 1]."
        ),
        conversion=Conversion(
            unused=(r"pooler\..*",),
            rename=(
                (r"embeddings\.cls_token", "cls_token"),
                (r"embeddings\.position_embeddings", "pos_embed"),
                (r"embeddings\.patch_embeddings\.projection\.(\w+)", r"patch_embed.\1"),
                (
                    _BLOCK + r"attention\.attention\.([qkv])(?:uery|ey|alue)\.(\w+)",
                    r"blocks.\1.attn.\2.\3",
                ),
                (_BLOCK + r"attention\.output\.dense\.(\w+)", r"blocks.\1.attn.proj.\2"),
                (_BLOCK + r"intermediate\.dense\.(\w+)", r"blocks.\1.fc1.\2"),
                (_BLOCK + r"output\.dense\.(\w+)", r"blocks.\1.fc2.\2"),
                (_BLOCK + r"layernorm_before\.(\w+)", r"blocks.\1.norm1.\2"),
                (_BLOCK + r"layernorm_after\.(\w+)", r"blocks.\1.norm2.\2"),
                (r"layernorm\.(\w+)", r"norm.\1"),
            ),
            steps=("fuse-qkv",),
        ),
        adaptation=Adaptation(
            first_layer="patch_embed.weight", inflate=True, positions={"pos_embed": (1, (14, 14))}
        ),
        quirks=(
            IMAGENET_TERMS,
            "positions are those of a slice's patches, the same for all slices",
        ),
    )
)
