"""Vision transformers that DINOv2 and DINOv3 trained without labels, built by transformers.

DINOv2 (Oquab et al., arXiv 2304.07193) has learned positions, which it interpolates to the slice's
grid of patches; DINOv3 (Siméoni et al., arXiv 2508.10104) has rotary ones and register tokens. The
features are the class token after the last norm.
"""

from collections.abc import Callable
from typing import Any, Self

import torch
from pydantic import PositiveInt, model_validator
from torch import nn

from braintune.extras import import_extra
from braintune.models.backbone import TokenGrid
from braintune.models.encoders.encoder import ENCODERS, EncoderEntry, SliceShape
from braintune.models.encoders.photograph_encoder import (
    PhotographEncoder,
    PhotographOptions,
    colour_channels,
)

# DINOv2's positions were learned for photographs of 518 pixels, 37 patches an edge.
_DINOV2_IMAGE, _DINOV2_PATCH, _DINOV3_PATCH, _DINOV3_REGISTERS = 518, 14, 16, 4


class DinoOptions(PhotographOptions):
    """Options of the DINO transformers; see also `PhotographOptions`.

    Attributes:
        width: Length of a token.
        depth: Transformer blocks.
        heads: Attention heads.
    """

    width: PositiveInt = 384
    depth: PositiveInt = 12
    heads: PositiveInt = 6

    @model_validator(mode="after")
    def _whole_heads(self) -> Self:
        if self.width % (4 * self.heads):
            msg = f"width {self.width} must be a multiple of four times the heads {self.heads}"
            raise ValueError(msg)
        return self


class DinoBaseOptions(DinoOptions):
    """Options of the base size; see `DinoOptions`."""

    width: PositiveInt = 768
    heads: PositiveInt = 12


def _dinov2(options: DinoOptions, given: SliceShape) -> PhotographEncoder:
    transformers = import_extra("transformers", "encoders")
    config = transformers.Dinov2Config(
        hidden_size=options.width,
        num_hidden_layers=options.depth,
        num_attention_heads=options.heads,
        image_size=_DINOV2_IMAGE,
        patch_size=_DINOV2_PATCH,
        num_channels=colour_channels(given),
        # Only masked pre-training needs it.
        use_mask_token=False,
    )
    encoder = _encoder(transformers.Dinov2Model(config), options, _DINOV2_PATCH)
    edge = _DINOV2_IMAGE // _DINOV2_PATCH
    key = "network.embeddings.position_embeddings"
    encoder.token_grids = {key: TokenGrid(1, (edge, edge))}
    return encoder


def _dinov3(options: DinoOptions, given: SliceShape) -> PhotographEncoder:
    transformers = import_extra("transformers", "encoders")
    config = transformers.DINOv3ViTConfig(
        hidden_size=options.width,
        intermediate_size=4 * options.width,
        num_hidden_layers=options.depth,
        num_attention_heads=options.heads,
        num_register_tokens=_DINOV3_REGISTERS,
        patch_size=_DINOV3_PATCH,
        num_channels=colour_channels(given),
        # It scales the positions at random in training; how far to augment is the recipe's choice.
        pos_embed_rescale=None,
    )
    network = transformers.DINOv3ViTModel(config)
    # Only masked pre-training needs it.
    network.embeddings.mask_token = None
    return _encoder(network, options, _DINOV3_PATCH)


def _encoder(network: nn.Module, options: DinoOptions, patch: int) -> PhotographEncoder:
    encoder = PhotographEncoder(network, _class_token, options, patch)
    encoder.n_features = options.width
    return encoder


def _class_token(outputs: Any) -> torch.Tensor:
    return outputs.last_hidden_state[:, 0]


def _register(
    name: str,
    paper: str,
    options: type[DinoOptions],
    build: Callable[[DinoOptions, SliceShape], PhotographEncoder],
) -> None:
    generation, size = name.split("-")
    ENCODERS.add(
        EncoderEntry(
            name=name,
            summary=f"{size} vision transformer of {generation.replace('dino', 'DINO')},"
            " trained on photographs without labels",
            paper=paper,
            options=options,
            build=build,
        )
    )


_DINOV2, _DINOV3 = "Oquab et al. 2023, arXiv 2304.07193", "Siméoni et al. 2025, arXiv 2508.10104"
_register("dinov2-small", _DINOV2, DinoOptions, _dinov2)
_register("dinov2-base", _DINOV2, DinoBaseOptions, _dinov2)
_register("dinov3-small", _DINOV3, DinoOptions, _dinov3)
_register("dinov3-base", _DINOV3, DinoBaseOptions, _dinov3)
