"""Full tuning: every parameter trains."""

from torch import nn

from braintune.adapters.adapter import ADAPTERS, AdapterEntry, AdapterOptions, unfreeze


def _apply(network: nn.Module, _: AdapterOptions) -> list[str]:
    unfreeze(network)
    return [name for name, _ in network.named_parameters()]


ADAPTERS.add(
    AdapterEntry(
        name="full",
        summary="every parameter of the backbone trains",
        adapts="all layers",
        cost="all",
        paper="",
        options=AdapterOptions,
        apply=_apply,
    )
)
