"""Parameters beside the adapted layers that train too, such as a decoder beside its encoder."""

import re
from collections.abc import Collection
from typing import Self

from pydantic import model_validator
from torch import nn

from braintune.adapters.adapter import adapted_layers
from braintune.adapters.targets import TargetOptions
from braintune.errors import InputError, listing


class FurtherOptions(TargetOptions):
    """Which layers are adapted, and what else trains.

    Attributes:
        also: A regular expression for the names of further parameters that train. Tensors of
            adapted layers never do.
    """

    also: str | None = None

    @model_validator(mode="after")
    def _also_is_an_expression(self) -> Self:
        try:
            re.compile(self.also or "")
        except re.error as error:
            msg = f"also {self.also!r} is no regular expression: {error}"
            raise ValueError(msg) from None
        return self


def further_parameters(
    network: nn.Module, pattern: str | None, adapted: Collection[str]
) -> list[nn.Parameter]:
    """The parameters that train beside the adapters; to be asked before layers are replaced.

    Args:
        network: The module tree.
        pattern: A regular expression that must be found in a parameter's name.
        adapted: Names of the layers that are about to be adapted, whose tensors stay as they are.

    Returns:
        The parameters; none without a pattern.

    Raises:
        InputError: If a pattern matches nothing; the message shows the names that there are.

    Example:
        >>> network = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
        >>> [parameter.numel() for parameter in further_parameters(network, "weight", ["0"])]
        [2]
    """
    if pattern is None:
        return []
    frozen = [*adapted, *(f"{name}.base" for name in adapted_layers(network))]
    there = {
        name: parameter
        for name, parameter in network.named_parameters()
        if not any(name.startswith(f"{layer}.") for layer in frozen)
    }
    found = [parameter for name, parameter in there.items() if re.search(pattern, name)]
    if not found:
        names = listing(there) or "none"
        msg = (
            f"'also' {pattern!r} matches no parameter outside of the adapted layers."
            f" There are: {names}."
        )
        raise InputError(msg)
    return found
