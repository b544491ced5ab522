"""Any network of images of the library transformers, by its model type and with random weights."""

from typing import Any

import torch
from pydantic import Field

from braintune.errors import InputError, nearest
from braintune.extras import import_extra
from braintune.models.encoders.encoder import ENCODERS, EncoderEntry, SliceShape
from braintune.models.encoders.photograph_encoder import (
    PhotographEncoder,
    PhotographOptions,
    colour_channels,
    demand_network,
)


class TransformersOptions(PhotographOptions):
    """Options of transformers' networks; see also `PhotographOptions`.

    Attributes:
        model_type: The library's name of the architecture, such as ``swin``.
        config: What differs from the architecture's default configuration.
    """

    model_type: str
    config: dict[str, Any] = Field(default_factory=dict)


def pooled_output(outputs: Any) -> torch.Tensor:
    """What a network of transformers says of an image as a whole.

    Args:
        outputs: With ``pooler_output``, or else with ``last_hidden_state`` as tokens or as a map,
            over which the mean is taken.

    Returns:
        Shape (images, features).
    """
    pooled = getattr(outputs, "pooler_output", None)
    if pooled is not None:
        return pooled.flatten(1)
    hidden: torch.Tensor = outputs.last_hidden_state
    return hidden.mean(dim=1) if hidden.ndim == 3 else hidden.mean(dim=(2, 3))


def _build(options: TransformersOptions, given: SliceShape) -> PhotographEncoder:
    transformers = import_extra("transformers", "encoders")
    kind, name = options.model_type, f"The transformers model {options.model_type!r}"
    known = _image_networks()
    if kind not in known:
        raise InputError(f"{name} is no known network of images.{nearest(kind, known)}")
    values = {"num_channels": colour_channels(given), **options.config}
    try:
        config = transformers.CONFIG_MAPPING[kind](**values)
        shown = transformers.MODEL_MAPPING[type(config)].main_input_name
        if shown != "pixel_values":
            raise InputError(f"{name} takes {shown} and not images alone.")
        network = transformers.AutoModel.from_config(config)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name} could not be built: {error}.") from None
    encoder = PhotographEncoder(network, pooled_output, options)
    remedy = " It may need 'config: {image_size: …}'."
    encoder.n_features = demand_network(name, encoder, given, remedy)
    return encoder


def _image_networks() -> list[str]:
    """Names of the architectures that classify images or find features in them.

    Those that wrap timm are left out: some ask the network for weights, and timm has an encoder of
    its own.
    """
    auto = import_extra("transformers.models.auto.modeling_auto", "encoders")
    names = {
        *auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
        *auto.MODEL_FOR_BACKBONE_MAPPING_NAMES,
    }
    return sorted(name for name in names if not name.startswith("timm"))


ENCODERS.add(
    EncoderEntry(
        name="transformers",
        summary="any network of images of the library transformers, by the option 'model_type'",
        paper="Wolf et al. 2020, doi 10.18653/v1/2020.emnlp-demos.6",
        options=TransformersOptions,
        build=_build,
    )
)
