"""Linear probing: the backbone is frozen, only the head trains."""

from torch import nn

from braintune.adapters.adapter import ADAPTERS, AdapterEntry, AdapterOptions, freeze


def _apply(network: nn.Module, _: AdapterOptions) -> list[str]:
    freeze(network)
    return []


ADAPTERS.add(
    AdapterEntry(
        name="probe",
        summary="the backbone is frozen, only the head trains",
        adapts="none",
        cost="nothing but the head",
        paper="Alain and Bengio 2016, arXiv 1610.01644",
        options=AdapterOptions,
        apply=_apply,
    )
)
