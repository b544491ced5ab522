"""ConvNeXt (Liu et al., CVPR 2022), built by transformers."""

from typing import Any

import torch
from pydantic import Field

from braintune.extras import import_extra
from braintune.models.encoders.encoder import (
    ENCODERS,
    EncoderEntry,
    SliceShape,
    demand_slices,
)
from braintune.models.encoders.photograph_encoder import (
    PhotographEncoder,
    PhotographOptions,
    colour_channels,
)


class ConvNextOptions(PhotographOptions):
    """Options of ConvNeXt; see also `PhotographOptions`.

    Attributes:
        widths: Channels of the four stages.
        depths: Blocks of the four stages.
    """

    widths: list[int] = Field([96, 192, 384, 768], min_length=4, max_length=4)
    depths: list[int] = Field([3, 3, 9, 3], min_length=4, max_length=4)


def _build(options: ConvNextOptions, given: SliceShape) -> PhotographEncoder:
    demand_slices("convnext-tiny", given, 32)
    transformers = import_extra("transformers", "encoders")
    config = transformers.ConvNextConfig(
        hidden_sizes=options.widths,
        depths=options.depths,
        num_channels=colour_channels(given),
        # The published network's; the library's default for the last norm is another.
        layer_norm_eps=1e-6,
    )
    encoder = PhotographEncoder(transformers.ConvNextModel(config), _pooled, options)
    encoder.n_features = options.widths[-1]
    return encoder


def _pooled(outputs: Any) -> torch.Tensor:
    return outputs.pooler_output


ENCODERS.add(
    EncoderEntry(
        name="convnext-tiny",
        summary="ConvNeXt-T of ImageNet",
        paper="Liu et al. 2022, arXiv 2201.03545",
        options=ConvNextOptions,
        build=_build,
    )
)
