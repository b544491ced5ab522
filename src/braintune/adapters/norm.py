"""Only the scales and shifts of the norms train (Frankle et al. 2021).

The statistics of batch norms stay as they are: with few scans in a batch, learning them anew would
change the frozen layers' features more than the scales and shifts do.
"""

from torch import nn

from braintune.adapters.adapter import (
    ADAPTERS,
    AdapterEntry,
    AdapterOptions,
    freeze,
    train_norms,
)
from braintune.errors import InputError, listing


def _apply(network: nn.Module, _: AdapterOptions) -> list[str]:
    freeze(network)
    names = train_norms(network)
    if not names:
        there = {type(module).__name__ for module in network.modules()}
        msg = (
            f"No norm of the network has parameters to train. There are: {listing(sorted(there))}."
        )
        raise InputError(msg)
    return names


ADAPTERS.add(
    AdapterEntry(
        name="norm",
        summary="scales and shifts of the norms train, on the statistics that they have",
        adapts="batch, instance, layer and group norms",
        cost="2 · C of each norm",
        paper="Frankle et al. 2021, arXiv 2003.00152",
        options=AdapterOptions,
        apply=_apply,
    )
)
