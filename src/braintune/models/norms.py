"""Norms to choose from: over the batch, over one scan's channel, or over groups of its channels."""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal

from torch import nn

NormName = Literal["batch", "instance", "group"]


def _instance_norm(channels: int) -> nn.Module:
    # The same as InstanceNorm3d, which however undoes the channels-last layout.
    return nn.GroupNorm(channels, channels)


def _group_norm(channels: int) -> nn.Module:
    return nn.GroupNorm(math.gcd(8, channels), channels)


NORMS: Mapping[NormName, Callable[[int], nn.Module]] = MappingProxyType(
    {"batch": nn.BatchNorm3d, "instance": _instance_norm, "group": _group_norm}
)
