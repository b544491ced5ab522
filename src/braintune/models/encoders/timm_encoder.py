"""Any network of the library timm, by its name and with random weights."""

from typing import Any

from pydantic import Field

from braintune.errors import InputError, nearest
from braintune.extras import import_extra
from braintune.models.encoders.encoder import ENCODERS, EncoderEntry, SliceShape
from braintune.models.encoders.photograph_encoder import (
    PhotographEncoder,
    PhotographOptions,
    colour_channels,
    demand_network,
    features_alone,
)


class TimmOptions(PhotographOptions):
    """Options of timm's networks; see also `PhotographOptions`.

    Attributes:
        model: timm's name of the network.
        arguments: Further arguments of ``timm.create_model``; most transformers take slices of any
            size by ``{dynamic_img_size: true, dynamic_img_pad: true}``.
    """

    model: str
    arguments: dict[str, Any] = Field(default_factory=dict)


def _build(options: TimmOptions, given: SliceShape) -> PhotographEncoder:
    timm = import_extra("timm", "encoders")
    name = f"The timm model {options.model!r}"
    # Only names of the library itself: those of hubs would be looked up in the network.
    if not timm.is_model(options.model):
        raise InputError(f"{name} is unknown.{nearest(options.model, timm.list_models())}")
    arguments = {
        "pretrained": False,
        "num_classes": 0,
        "in_chans": colour_channels(given),
        **options.arguments,
    }
    try:
        network = timm.create_model(options.model, **arguments)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise InputError(f"{name} could not be built: {error}.") from None
    encoder = PhotographEncoder(network, features_alone, options)
    remedy = " It may need 'arguments: {dynamic_img_size: true, dynamic_img_pad: true}'."
    encoder.n_features = demand_network(name, encoder, given, remedy)
    return encoder


ENCODERS.add(
    EncoderEntry(
        name="timm",
        summary="any network of the library timm, by the option 'model'",
        paper="Wightman 2019, doi 10.5281/zenodo.4414861",
        options=TimmOptions,
        build=_build,
    )
)
