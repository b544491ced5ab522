"""The part of a network that is the same in every step of training: its first, frozen stages."""

from dataclasses import dataclass

import torch
from torch import nn

from braintune.adapters.adapter import AdapterLayer, norms_with_statistics
from braintune.fitting.network import Network
from braintune.models.backbone import Backbone, run_steps
from braintune.models.stochastic_depth import StochasticDepth


@dataclass(frozen=True)
class Prefix:
    """Some first stages of a backbone, or all of it.

    Attributes:
        backbone: The adapted backbone.
        stages: How many of its stages.
    """

    backbone: Backbone
    stages: int

    @property
    def is_whole(self) -> bool:
        """Whether it ends in the backbone's features."""
        return self.stages == len(self.backbone.stages())

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """The activations behind the last of the stages."""
        if self.is_whole:
            features: torch.Tensor = self.backbone(images)
            return features
        return run_steps(self.backbone.steps()[: self.stages], images)

    def rest(self, activations: torch.Tensor) -> torch.Tensor:
        """The backbone's features from the activations."""
        if self.is_whole:
            return activations
        return run_steps(self.backbone.steps()[self.stages :], activations)

    def state(self) -> dict[str, torch.Tensor]:
        """All that the activations depend on beside the scan: parameters and statistics."""
        state = self.backbone.state_dict()
        if self.is_whole:
            return state
        names = [name for stage in self.backbone.stages()[: self.stages] for name in stage]
        return {key: value for key, value in state.items() if _lies_in(key, names)}


class Tail(nn.Module):
    """What is left of a network behind a prefix; its parameters are the network's own.

    Args:
        network: The whole network.
        prefix: What it leaves out.
    """

    def __init__(self, network: Network, prefix: Prefix) -> None:
        super().__init__()
        self.network = network
        self._prefix = prefix

    def forward(self, activations: torch.Tensor) -> torch.Tensor:
        """From activations to the task's outputs, of shape (batch, outputs)."""
        outputs: torch.Tensor = self.network.head(self._prefix.rest(activations))
        return outputs


def frozen_prefix(backbone: Backbone) -> Prefix | None:
    """The longest prefix in which nothing trains and nothing is drawn at random.

    Backbones whose stages are no sequence have one only if all of them is frozen.

    Args:
        backbone: Adapted.

    Returns:
        None if the first stage changes already.
    """
    stages = backbone.stages()
    moving = _moving(backbone)
    frozen = 0
    for stage in stages:
        if any(_lies_in(name, list(stage)) for name in moving):
            break
        frozen += 1
    if moving and (frozen == len(stages) or not backbone.steps()):
        # What moves lies outside of the stages, or the stages can't be taken one by one.
        return None
    return Prefix(backbone, frozen) if frozen else None


def _moving(backbone: Backbone) -> list[str]:
    """Names of parameters that train, and of modules that may compute something else each time."""
    rest = norms_with_statistics(backbone)
    found = [name for name, parameter in backbone.named_parameters() if parameter.requires_grad]
    for name, module in backbone.named_modules():
        drops = isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0
        skips = isinstance(module, StochasticDepth) and module.rate > 0
        learns = isinstance(module, nn.modules.batchnorm._BatchNorm) and name not in rest
        if isinstance(module, AdapterLayer) or drops or skips or learns:
            found.append(name)
    return found


def _lies_in(name: str, stage: list[str]) -> bool:
    return f"{name}.".startswith(tuple(f"{part}." for part in stage))
