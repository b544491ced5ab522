"""What every adapter is, the registry that holds them, and the audit of what trains.

To add one, write a file in this folder that registers an `AdapterEntry`. Adapters know layers,
never a backbone: they take any module tree.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import nn

from braintune.registry import Registry, parse

_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)


class AdapterOptions(BaseModel):
    """Options of an adapter."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class AdapterEntry:
    """One method of the registry.

    Attributes:
        name: What recipes call it.
        summary: One line for `braintune adapters`.
        adapts: The layers that it can adapt.
        paper: Where it was published.
        options: Its options.
        apply: Makes a network trainable in its way, in place, and returns the names of the layers
            that it adapted.
    """

    name: str
    summary: str
    adapts: str
    paper: str
    options: type[AdapterOptions]
    apply: Callable[[nn.Module, Any], list[str]]


ADAPTERS: Registry[AdapterEntry] = Registry("adapter", "braintune.adapters")


class AdapterLayer(nn.Module):
    """A layer put in the place of a frozen one, which it holds as ``base``."""

    base: nn.Module

    def adapter_parameters(self) -> list[nn.Parameter]:
        """The parameters that the method added."""
        return [p for name, p in self.named_parameters() if not name.startswith("base.")]

    @property
    def weight(self) -> torch.Tensor:
        """The weight that the layer computes with, for networks that look into their layers."""
        raise NotImplementedError

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
        network: Any module tree; it computes the same afterwards as before.
        name: The adapter.
        options: Its options.

    Returns:
        The names of the layers that were adapted.

    Raises:
        InputError: If there is no such adapter or option, or it matches no layer.

    Example:
        >>> network = nn.Sequential(nn.Conv3d(1, 4, 3), nn.ReLU(), nn.Conv3d(4, 4, 1))
        >>> adapt(network, "lora", {"rank": 2})
        ['0', '2']
        >>> sum(p.numel() for p in network.parameters() if p.requires_grad)
        78
    """
    checked = check_options(name, options or {})
    return ADAPTERS.get(name).apply(network, checked)


def merge(network: nn.Module) -> nn.Module:
    """Put ordinary layers that compute the same in the place of all adapted ones.

    Returns:
        The network; a new one only if it was itself an adapted layer.
    """
    if isinstance(network, AdapterLayer):
        return network.merged()
    for name, child in network.named_children():
        setattr(network, name, merge(child))
    return network


def freeze(network: nn.Module) -> None:
    """Stop all parameters from training."""
    for parameter in network.parameters():
        parameter.requires_grad_(False)


def set_training(network: nn.Module) -> None:
    """Put a network into training mode, but frozen norms into evaluation mode.

    A norm whose parameters are frozen keeps the statistics that its weights were trained with;
    otherwise a frozen backbone would change with every batch it sees.
    """
    network.train()
    for module in network.modules():
        if isinstance(module, _NORMS) and _is_frozen(module):
            module.eval()


def _is_frozen(module: nn.Module) -> bool:
    parameters = list(module.parameters(recurse=False))
    return bool(parameters) and not any(p.requires_grad for p in parameters)


@dataclass(frozen=True)
class ParameterAudit:
    """How many parameters there are and how many train.

    Attributes:
        total: All of them.
        trainable: Those that receive gradients.
        parts: All of them by part: ``backbone``, ``adapter``, ``head``.
        trainable_parts: Those that train, by part.
    """

    total: int
    trainable: int
    parts: dict[str, int]
    trainable_parts: dict[str, int]

    @property
    def frozen(self) -> int:
        """Those that do not train."""
        return self.total - self.trainable


def audit_parameters(backbone: nn.Module, head: nn.Module | None = None) -> ParameterAudit:
    """Count the parameters of an adapted backbone and its head, shared ones once."""
    added = {
        id(parameter)
        for module in backbone.modules()
        if isinstance(module, AdapterLayer)
        for parameter in module.adapter_parameters()
    }
    groups: dict[str, list[torch.nn.Parameter]] = {
        "backbone": [p for p in backbone.parameters() if id(p) not in added],
        "adapter": [p for p in backbone.parameters() if id(p) in added],
        "head": list(head.parameters()) if head is not None else [],
    }
    parts = {name: sum(p.numel() for p in group) for name, group in groups.items()}
    training = {
        name: sum(p.numel() for p in group if p.requires_grad) for name, group in groups.items()
    }
    return ParameterAudit(sum(parts.values()), sum(training.values()), parts, training)
