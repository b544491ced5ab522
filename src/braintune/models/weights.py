"""Loading weights: every key fits, or nothing is loaded and the message says why."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from braintune.errors import InputError, listing
from braintune.files import write_bytes
from braintune.models.backbone import Backbone, InputShape, build_backbone


@dataclass(frozen=True)
class LoadReport:
    """What loading did.

    Attributes:
        loaded: How many tensors were loaded.
        parameters: How many numbers they hold.
    """

    loaded: int
    parameters: int


def load_backbone(name: str, given: InputShape, weights: str, options: dict[str, Any]) -> Backbone:
    """Make a backbone and load its weights.

    Args:
        name: The backbone.
        given: Channels and shape of the input.
        weights: ``"none"`` for random weights, or the path of a safetensors file of the backbone's
            own keys.
        options: The backbone's options.

    Raises:
        InputError: If the file is missing or broken, or any key is missing, unknown, of another
            shape, or not finite.
    """
    backbone = build_backbone(name, given, options)
    if weights != "none":
        load_weights(backbone, Path(weights))
    return backbone


def load_weights(network: nn.Module, path: Path) -> LoadReport:
    """Load a network's whole state from a safetensors file; fails closed.

    Raises:
        InputError: If the file is missing or broken, or any key is missing, unknown, of another
            shape, or not finite.
    """
    state = read_tensors(path)
    demand_fit(state, network, path)
    network.load_state_dict(state)
    return LoadReport(len(state), sum(value.numel() for value in state.values()))


def demand_fit(state: dict[str, torch.Tensor], network: nn.Module, path: Path) -> None:
    """Make sure that tensors are a network's whole state.

    Raises:
        InputError: With every key that is missing, unknown, of another shape, or not finite.
    """
    expected = network.state_dict()
    problems = [f"missing {key}" for key in expected if key not in state]
    problems += [f"unknown {key}" for key in state if key not in expected]
    problems += [
        f"{key} is {list(state[key].shape)} instead of {list(value.shape)}"
        for key, value in expected.items()
        if key in state and state[key].shape != value.shape
    ]
    problems += [
        f"{key} holds NaN or infinity"
        for key, value in state.items()
        if value.is_floating_point() and not torch.isfinite(value).all()
    ]
    if problems:
        msg = f"{path} does not fit the network, nothing was loaded: {listing(problems)}."
        raise InputError(msg)


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read a safetensors file, which can hold no code.

    Raises:
        InputError: If it is missing or broken.
    """
    if not path.is_file():
        raise InputError(f"The weights {path} do not exist. Give 'none' or a .safetensors file.")
    try:
        return load_file(path)
    except SafetensorError as error:
        msg = f"{path} is no safetensors file ({error}). Pickled checkpoints are not read."
        raise InputError(msg) from None


def write_tensors(path: Path, tensors: dict[str, torch.Tensor], **facts: str) -> None:
    """Write tensors as safetensors, whole or not at all."""
    state = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    write_bytes(path, save(state, metadata=facts))
