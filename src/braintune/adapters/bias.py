"""Only biases train, those of norms too (BitFit, Zaken et al. 2022)."""

from torch import nn

from braintune.adapters.adapter import ADAPTERS, AdapterEntry, adapted_layers
from braintune.adapters.further import freeze_but
from braintune.adapters.targets import KINDS, TargetOptions, choose_among
from braintune.errors import InputError, listing


class BiasOptions(TargetOptions):
    """Options of bias tuning; see `TargetOptions`. With ``kinds``, biases of norms stay frozen."""


def _apply(network: nn.Module, options: BiasOptions) -> list[str]:
    chosen = _choose(network, options)
    freeze_but(network, options.also, ())
    for layer in chosen.values():
        for bias in _biases(layer):
            bias.requires_grad_(True)
    return list(chosen)


def _choose(network: nn.Module, options: BiasOptions) -> dict[str, nn.Module]:
    """The layers whose biases train, in their order."""
    inner = tuple(f"{name}." for name in adapted_layers(network))
    there = {
        name: layer
        for name, layer in network.named_modules()
        if _biases(layer) and not f"{name}.".startswith(inner)
    }
    types = tuple(layer_type for kind in options.kinds or () for layer_type in KINDS[kind])
    chosen = {
        name: layer
        for name, layer in choose_among(there, options).items()
        if options.kinds is None or isinstance(layer, types)
    }
    if not chosen:
        msg = (
            f"The adapter matches no layer with a bias (layers {options.layers!r}, kinds"
            f" {options.kinds}, depth {list(options.depth)})."
            f" There are: {listing(there) or 'none'}."
        )
        raise InputError(msg)
    return chosen


def _biases(layer: nn.Module) -> list[nn.Parameter]:
    """A layer's own biases, by whatever name: recurrent and attention layers have several.

    Tables of biases by relative position have two dimensions; they are weights of attention.
    """
    return [
        parameter
        for name, parameter in layer.named_parameters(recurse=False)
        if parameter.ndim == 1 and "bias" in name.split("_")
    ]


ADAPTERS.add(
    AdapterEntry(
        name="bias",
        summary="biases train, those of norms too",
        adapts="all layers that have a bias",
        cost="C_out of each layer",
        paper="Zaken et al. 2022, arXiv 2106.10199",
        options=BiasOptions,
        apply=_apply,
    )
)
