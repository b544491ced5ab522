"""What every adapter is, the registry that holds them, and how networks are adapted.

To add one, write a file in this folder that registers an `AdapterEntry`. Adapters know layers,
never a backbone: they take any module tree.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict
from torch import nn

from braintune.errors import InputError
from braintune.registry import Registry, parse

NORMS: tuple[type[nn.Module], ...] = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
)


class AdapterOptions(BaseModel):
    """Options of an adapter.

    Attributes:
        norms: What becomes of the norms of a frozen backbone: they stay ``frozen``; their
            ``affine`` parameters train on frozen statistics; or the statistics are estimated anew
            on the training rows before training, ``recalibrate``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    norms: Literal["frozen", "affine", "recalibrate"] = "frozen"


@dataclass(frozen=True)
class AdapterEntry:
    """One method of the registry.

    Attributes:
        name: What recipes call it.
        summary: One line for `braintune adapters`.
        adapts: The layers that it can adapt.
        cost: What trains, in words or as a formula for one layer.
        paper: Where it was published.
        options: Its options.
        apply: Makes a network trainable in its way, in place, and returns the names of the layers
            that it adapted.
        starts_as_backbone: Whether the adapted network computes at first what the backbone did.
        head_kind: The kind of head that belongs to the method, whatever the task's own is.
    """

    name: str
    summary: str
    adapts: str
    cost: str
    paper: str
    options: type[AdapterOptions]
    apply: Callable[[nn.Module, Any], list[str]]
    starts_as_backbone: bool = True
    head_kind: Literal["mlp"] | None = None


ADAPTERS: Registry[AdapterEntry] = Registry("adapter", "braintune.adapters")


class AdapterLayer(nn.Module):
    """A layer put in the place of a frozen one, which it holds as ``base`` and never changes."""

    base: nn.Module

    def adapter_parameters(self) -> list[nn.Parameter]:
        """The parameters that the method added."""
        return [p for name, p in self.named_parameters() if not name.startswith("base.")]

    def learning_rates(self) -> Mapping[str, float]:
        """Factors of the learning rate, for those of the added parameters that have one."""
        return {}

    @property
    def weight(self) -> torch.Tensor:
        """The weight that the layer computes with, for networks that look into their layers."""
        raise NotImplementedError

    @property
    def bias(self) -> torch.Tensor | None:
        """The bias that the layer computes with."""
        bias = self.base.bias
        assert bias is None or isinstance(bias, torch.Tensor)
        return bias

    def merged(self) -> nn.Module:
        """An ordinary layer that computes the same."""
        raise NotImplementedError


def check_options(name: str, options: dict[str, Any]) -> AdapterOptions:
    """An adapter's options, checked.

    Raises:
        InputError: If there is no such adapter or option, naming the nearest.
    """
    return parse(ADAPTERS.get(name).options, options, "adapter")


def adapt(network: nn.Module, name: str, options: dict[str, Any] | None = None) -> list[str]:
    """Make a network trainable by an adapter, in place.

    Args:
        network: Any module tree; unless the method says otherwise, it computes the same afterwards
            as before.
        name: The adapter.
        options: Its options.

    Returns:
        The names of the layers that were adapted.

    Raises:
        InputError: If there is no such adapter or option, it matches no layer, or statistics are to
            be estimated anew where none are kept.

    Example:
        >>> network = nn.Sequential(nn.Conv3d(1, 4, 3), nn.ReLU(), nn.Conv3d(4, 4, 1))
        >>> adapt(network, "lora", {"rank": 2})
        ['0', '2']
        >>> sum(p.numel() for p in network.parameters() if p.requires_grad)
        78
    """
    checked = check_options(name, options or {})
    names = ADAPTERS.get(name).apply(network, checked)
    if checked.norms == "affine":
        train_norms(network)
    if checked.norms == "recalibrate" and not norms_with_statistics(network):
        msg = (
            f"'norms: recalibrate' needs batch norms that keep their statistics under {name}, but"
            " the network has none."
        )
        raise InputError(msg)
    return names


def adapted_layers(network: nn.Module) -> dict[str, AdapterLayer]:
    """The adapted layers of a network, by name; of layers within layers, the outer one."""
    found: dict[str, AdapterLayer] = {}
    for name, module in network.named_modules():
        inner = any(name.startswith(f"{outer}.") for outer in found)
        if isinstance(module, AdapterLayer) and not inner:
            found[name] = module
    return found


def detach(network: nn.Module) -> dict[str, AdapterLayer]:
    """Put the frozen layers back in the place of the adapted ones.

    Returns:
        The adapted layers, for `attach`. Several adapters can so take turns on one backbone.
    """
    layers = adapted_layers(network)
    for name, layer in layers.items():
        _put(network, name, layer.base)
    return layers


def attach(network: nn.Module, layers: Mapping[str, AdapterLayer]) -> None:
    """Put adapted layers into a network: undoes `detach` and `merge`."""
    for name, layer in layers.items():
        _put(network, name, layer)


def merge(network: nn.Module) -> nn.Module:
    """Put ordinary layers that compute the same in the place of all adapted ones.

    To undo it, keep `adapted_layers` beforehand and give them to `attach`.

    Returns:
        The network; a new one only if it was itself an adapted layer.
    """
    if isinstance(network, AdapterLayer):
        return network.merged()
    for name, layer in adapted_layers(network).items():
        _put(network, name, layer.merged())
    return network


def _put(network: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, attribute = name.rpartition(".")
    setattr(network.get_submodule(parent), attribute, layer)


def freeze(network: nn.Module) -> None:
    """Stop all parameters from training, and norms from learning their statistics."""
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    for _, norm in norms_of(network):
        # Said of each, for a norm without parameters does not show whether it is frozen.
        norm.keeps_statistics = True  # type: ignore[assignment]


def unfreeze(network: nn.Module) -> None:
    """Let all parameters train, and norms learn their statistics."""
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    for _, norm in norms_of(network):
        norm.keeps_statistics = False  # type: ignore[assignment]


def norms_of(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The norms of a network with parameters or statistics, by name."""
    for name, module in network.named_modules():
        if isinstance(module, NORMS):
            yield name, module


def train_norms(network: nn.Module) -> list[str]:
    """Let the parameters of a frozen network's norms train, on the statistics that they have."""
    trained = []
    for name, norm in norms_of(network):
        parameters = list(norm.parameters(recurse=False))
        for parameter in parameters:
            parameter.requires_grad_(True)
        if parameters:
            norm.keeps_statistics = True  # type: ignore[assignment]
            trained.append(name)
    return trained


def set_training(network: nn.Module) -> None:
    """Put a network into training mode, but norms of a frozen backbone into evaluation mode.

    A frozen norm keeps the statistics that its weights were trained with; otherwise a frozen
    backbone would change with every batch it sees.
    """
    network.train()
    for norm in _norms_that_rest(network).values():
        norm.eval()


def norms_with_statistics(network: nn.Module) -> dict[str, nn.modules.batchnorm._BatchNorm]:
    """The batch norms that compute with the statistics they have while the network trains."""
    return {
        name: norm
        for name, norm in _norms_that_rest(network).items()
        if isinstance(norm, nn.modules.batchnorm._BatchNorm) and norm.running_mean is not None
    }


def _norms_that_rest(network: nn.Module) -> dict[str, nn.Module]:
    return {
        name: norm
        for name, norm in norms_of(network)
        if _is_frozen(norm) or getattr(norm, "keeps_statistics", False)
    }


def _is_frozen(module: nn.Module) -> bool:
    parameters = list(module.parameters(recurse=False))
    return bool(parameters) and not any(p.requires_grad for p in parameters)


def learning_rate_factors(network: nn.Module) -> dict[str, float]:
    """Factors of the learning rate that adapted layers ask for, by the parameter's full name."""
    return {
        f"{name}.{own}" if name else own: factor
        for name, module in network.named_modules()
        if isinstance(module, AdapterLayer)
        for own, factor in module.learning_rates().items()
    }
