"""How many parameters there are, and how many train."""

from dataclasses import dataclass

import torch
from torch import nn

from braintune.adapters.adapter import AdapterLayer


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
