"""A frozen backbone under a head with a hidden layer."""

from torch import nn

from braintune.adapters.adapter import ADAPTERS, AdapterEntry, AdapterOptions, freeze


def _apply(network: nn.Module, _: AdapterOptions) -> list[str]:
    freeze(network)
    return []


ADAPTERS.add(
    AdapterEntry(
        name="mlp-head",
        summary="the backbone is frozen, and a head with a hidden layer trains",
        adapts="none",
        cost="nothing but the head: hidden · (features + outputs + 1) + outputs",
        paper="",
        options=AdapterOptions,
        apply=_apply,
        head_kind="mlp",
    )
)
