"""Slice-set networks whose 2D encoder is ConvNeXt-T of ImageNet (Liu et al., arXiv 2201.03545)."""

from braintune.models.records.hosts import HASH_UNKNOWN, IMAGENET_TERMS
from braintune.models.records.imagenet_resnets import IMAGENET_PREPARE
from braintune.models.records.slice_set_resnets import REST_OF_SLICE_SET, SHOWN_GREY
from braintune.models.weights.record import (
    WEIGHTS,
    Adaptation,
    Conversion,
    Source,
    WeightRecord,
)

_NETWORK = "encoder.network."
_LAYER = r"stages\.(\d)\.(\d+)\."
_NEW_LAYER = _NETWORK + r"encoder.stages.\1.layers.\2."

WEIGHTS.add(
    WeightRecord(
        backbone="slice-set",
        tag="imagenet-convnext-tiny",
        options={"encoder": "convnext-tiny"},
        summary="the encoder of slices classified photographs of ImageNet-1k",
        source=Source(
            url="https://dl.fbaipublicfiles.com/convnext/convnext_tiny_1k_224_ema.pth",
        ),
        licence="MIT",
        citation="Liu et al. 2022, arXiv 2201.03545",
        cohorts=("ImageNet-1k",),
        channels=3,
        prepare=IMAGENET_PREPARE,
        conversion=Conversion(
            container=("model",),
            unused=(r"head\..*",),
            rename=(
                (
                    r"downsample_layers\.0\.0\.(\w+)",
                    _NETWORK + r"embeddings.patch_embeddings.\1",
                ),
                (r"downsample_layers\.0\.1\.(\w+)", _NETWORK + r"embeddings.layernorm.\1"),
                (
                    r"downsample_layers\.(\d)\.([01])\.(\w+)",
                    _NETWORK + r"encoder.stages.\1.downsampling_layer.\2.\3",
                ),
                (_LAYER + "gamma", _NEW_LAYER + "layer_scale_parameter"),
                (_LAYER + r"norm\.(\w+)", _NEW_LAYER + r"layernorm.\3"),
                (_LAYER + r"(\w+)\.(\w+)", _NEW_LAYER + r"\3.\4"),
                (r"norm\.(\w+)", _NETWORK + r"layernorm.\1"),
            ),
        ),
        adaptation=Adaptation(
            first_layer="encoder.network.embeddings.patch_embeddings.weight",
            new=REST_OF_SLICE_SET,
        ),
        quirks=(HASH_UNKNOWN, SHOWN_GREY, IMAGENET_TERMS),
    )
)
