"""Only the last stages of a network train, wholly; those before them are frozen."""

from typing import Protocol, cast

from pydantic import PositiveInt
from torch import nn

from braintune.adapters.adapter import ADAPTERS, AdapterEntry, AdapterOptions, freeze, unfreeze
from braintune.errors import InputError, counted


class LastKOptions(AdapterOptions):
    """Options of tuning the last stages.

    Attributes:
        blocks: How many stages train.
    """

    blocks: PositiveInt = 1


class Staged(Protocol):
    """A network that knows its stages."""

    def stages(self) -> list[tuple[str, ...]]:
        """Names of submodules and parameters from input to output, in groups of like depth."""
        ...


def _apply(network: nn.Module, options: LastKOptions) -> list[str]:
    stages = _stages_of(network)
    if options.blocks > len(stages):
        msg = f"blocks is {options.blocks}, but the network has {counted(len(stages), 'stage')}."
        raise InputError(msg)
    freeze(network)
    trained = [name for stage in stages[-options.blocks :] for name in stage]
    for name, module in network.named_modules():
        if name in trained:
            unfreeze(module)
    for name, parameter in network.named_parameters():
        # A stage may name parameters of the network's own, too.
        if _lies_in(name, trained):
            parameter.requires_grad_(True)
    return trained


def _stages_of(network: nn.Module) -> list[tuple[str, ...]]:
    """The network's stages that have parameters; its direct children if it does not tell any."""
    # Asked of the class, for a submodule may be called so.
    if callable(getattr(type(network), "stages", None)):
        stages = cast(Staged, network).stages()
    else:
        stages = [(name,) for name, _ in network.named_children()]
    names = [name for name, _ in network.named_parameters()]
    return [stage for stage in stages if any(_lies_in(name, stage) for name in names)]


def _lies_in(parameter: str, stage: list[str] | tuple[str, ...]) -> bool:
    return f"{parameter}.".startswith(tuple(f"{name}." for name in stage))


ADAPTERS.add(
    AdapterEntry(
        name="last-k",
        summary="the last stages of the backbone train, the rest is frozen",
        adapts="the last k residual, transformer or convolution blocks",
        cost="all of those stages",
        paper="Yosinski et al. 2014, arXiv 1411.1792",
        options=LastKOptions,
        apply=_apply,
    )
)
