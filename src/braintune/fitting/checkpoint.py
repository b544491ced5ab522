"""What a fold needs to go on after it was stopped, in one file that holds no code."""

import io
import pickle
import zipfile
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from braintune.errors import InputError
from braintune.files import write_bytes

State = dict[str, torch.Tensor]


@dataclass
class Checkpoint:
    """The state of a fold's training after a number of steps.

    All chance is drawn from seeds of fold and step, so no generator needs to be kept.

    Attributes:
        step: Steps done.
        trained: What trains, and the buffers, of the network.
        optimiser: The optimiser's state.
        average: The same of the moving average, if there is one.
        average_steps: Its steps.
        best: The weights of the best epoch so far, if they are kept.
        best_loss: That epoch's validation loss.
        best_epoch: Its number.
        epoch_loss: Sum of the losses of the steps of the epoch that is under way.
        history: One entry an epoch.
    """

    step: int = 0
    trained: State = field(default_factory=dict)
    optimiser: dict[str, Any] = field(default_factory=dict)
    average: State | None = None
    average_steps: int = 0
    best: State | None = None
    best_loss: float = float("inf")
    best_epoch: int = 0
    epoch_loss: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, whole or not at all."""
    buffer = io.BytesIO()
    torch.save({f.name: getattr(checkpoint, f.name) for f in fields(checkpoint)}, buffer)
    write_bytes(path, buffer.getvalue())


def load_checkpoint(path: Path) -> Checkpoint | None:
    """Read a checkpoint, or None if there is none; tensors and plain values only, never code.

    Raises:
        InputError: If the file is no checkpoint.
    """
    if not path.exists():
        return None
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path} is no checkpoint. Delete it to begin its fold again.")
    try:
        return Checkpoint(**torch.load(path, map_location="cpu", weights_only=True))
    except (pickle.UnpicklingError, RuntimeError, TypeError) as error:
        reason = str(error).splitlines()[0]
        msg = f"{path} is no checkpoint ({reason}). Delete it to begin its fold again."
        raise InputError(msg) from None


def moving_state(network: nn.Module) -> State:
    """The part of a network's state that training can change: what trains, and the buffers."""
    frozen = {name for name, p in network.named_parameters() if not p.requires_grad}
    return {k: v.detach() for k, v in network.state_dict().items() if k not in frozen}


def load_moving_state(network: nn.Module, state: State) -> None:
    """Put back what `moving_state` took."""
    expected = moving_state(network)
    if set(expected) != set(state):
        msg = "The checkpoint is of another network; delete the fold's folder to begin it again."
        raise InputError(msg)
    network.load_state_dict(state, strict=False)
