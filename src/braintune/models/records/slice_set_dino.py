"""Slice-set networks whose 2D encoder is a transformer of DINOv2 or DINOv3."""

from braintune.models.records.hosts import hugging_face
from braintune.models.records.imagenet_resnets import IMAGENET_PREPARE
from braintune.models.records.slice_set_resnets import REST_OF_SLICE_SET, SHOWN_GREY
from braintune.models.weights.record import (
    WEIGHTS,
    Adaptation,
    Conversion,
    Source,
    WeightRecord,
)

_BLOCK, _NEW_BLOCK = r"encoder\.layer\.(\d+)\.", r"encoder.network.encoder.layer.\1."
_DINOV2 = Conversion(
    unused=(r"embeddings\.mask_token",),
    rename=(
        (
            _BLOCK + r"attention\.attention\.([qkv])(?:uery|ey|alue)\.(\w+)",
            _NEW_BLOCK + r"attention.\2_proj.\3",
        ),
        (_BLOCK + r"attention\.output\.dense\.(\w+)", _NEW_BLOCK + r"attention.o_proj.\2"),
        (r"(.+)", r"encoder.network.\1"),
    ),
)
_DINOV3 = Conversion(
    unused=(r"embeddings\.mask_token",),
    rename=(
        (r"layer\.(.+)", r"encoder.network.model.layer.\1"),
        (r"(.+)", r"encoder.network.\1"),
    ),
)


def _register_dinov2(size: str, source: Source) -> None:
    embeddings = "encoder.network.embeddings."
    WEIGHTS.add(
        WeightRecord(
            backbone="slice-set",
            tag=f"dinov2-{size}",
            options={"encoder": f"dinov2-{size}"},
            summary="the encoder of slices learned without labels from 142 million photographs",
            source=source,
            licence="Apache-2.0",
            citation="Oquab et al. 2023, arXiv 2304.07193",
            cohorts=("LVD-142M",),
            channels=3,
            prepare=IMAGENET_PREPARE,
            conversion=_DINOV2,
            adaptation=Adaptation(
                first_layer=f"{embeddings}patch_embeddings.projection.weight",
                positions={f"{embeddings}position_embeddings": (1, (37, 37))},
                new=REST_OF_SLICE_SET,
            ),
            quirks=(SHOWN_GREY,),
        )
    )


def _register_dinov3(size: str, source: Source) -> None:
    WEIGHTS.add(
        WeightRecord(
            backbone="slice-set",
            tag=f"dinov3-{size}",
            options={"encoder": f"dinov3-{size}"},
            summary="the encoder of slices learned without labels from 1.7 billion photographs",
            source=source.model_copy(update={"gated": True}),
            licence="DINOv3 License",
            citation="Siméoni et al. 2025, arXiv 2508.10104",
            cohorts=("LVD-1689M",),
            channels=3,
            prepare=IMAGENET_PREPARE,
            conversion=_DINOV3,
            adaptation=Adaptation(
                first_layer="encoder.network.embeddings.patch_embeddings.weight",
                new=REST_OF_SLICE_SET,
            ),
            quirks=(SHOWN_GREY,),
        )
    )


_register_dinov2(
    "small",
    hugging_face(
        "facebook/dinov2-small",
        "model.safetensors",
        "ed25f3a31f01632728cabb09d1542f84ab7b0056",
        "ae1e99fcefd534ed978cdeb8326f08030c96e28b7a81ffcbc98a857c84d14be1",
        88_249_960,
    ),
)
_register_dinov2(
    "base",
    hugging_face(
        "facebook/dinov2-base",
        "model.safetensors",
        "f9e44c814b77203eaa57a6bdbbd535f21ede1415",
        "d73036b56966966d07975d696bde331762f37297e2f095de8cea0040c3aa0841",
        346_345_912,
    ),
)
_register_dinov3(
    "small",
    hugging_face(
        "facebook/dinov3-vits16-pretrain-lvd1689m",
        "model.safetensors",
        "114c1379950215c8b35dfcd4e90a5c251dde0d32",
        "4610ad75edef83e75afdebf162d148dc628045ea6cbb83d67d4708c709c4f91d",
        86_406_384,
    ),
)
_register_dinov3(
    "base",
    hugging_face(
        "facebook/dinov3-vitb16-pretrain-lvd1689m",
        "model.safetensors",
        "5931719e67bbdb9737e363e781fb0c67687896bc",
        "9a21ac3df0c63839d62612dda6f454d816c25611cc7a52966ed5a5a94921dc8b",
        342_662_192,
    ),
)
