"""What a stage of training needs to go on after it was stopped: safetensors, which hold no code."""

from pathlib import Path

import torch
from torch import nn

from braintune.errors import InputError
from braintune.models.weights.tensors import read_facts, read_tensors, write_tensors

State = dict[str, torch.Tensor]
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


def save_checkpoint(
    path: Path,
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    average: State | None,
    facts: dict[str, str],
) -> None:
    """Write weights, their moving average and Adam's moments, whole or not at all.

    Args:
        path: The file.
        network: What trains.
        optimiser: Adam over all of its parameters, in their order.
        average: The moving average, by parameter, if there is one.
        facts: What else must be known, such as the steps done.
    """
    tensors = {f"network.{key}": value for key, value in network.state_dict().items()}
    tensors |= {f"average.{key}": value for key, value in (average or {}).items()}
    for number, moments in optimiser.state_dict()["state"].items():
        tensors |= {f"adam.{number}.{name}": moments[name] for name in _MOMENTS}
    write_tensors(path, tensors, **facts)


def load_checkpoint(
    path: Path, network: nn.Module, optimiser: torch.optim.Optimizer, average: State | None
) -> dict[str, str] | None:
    """Put back, in place, what `save_checkpoint` wrote.

    Returns:
        The facts, or None if there is no checkpoint.

    Raises:
        InputError: If the file is broken or of another network.
    """
    if not path.exists():
        return None
    tensors, facts = read_tensors(path), read_facts(path)
    try:
        network.load_state_dict(_part(tensors, "network."))
        if average is not None:
            saved = _part(tensors, "average.")
            for key, value in average.items():
                value.copy_(saved[key])
        document = optimiser.state_dict()
        count = len(document["param_groups"][0]["params"])
        document["state"] = {
            number: {name: tensors[f"adam.{number}.{name}"] for name in _MOMENTS}
            for number in range(count)
        }
        optimiser.load_state_dict(document)
    except (RuntimeError, KeyError) as error:
        reason = str(error).splitlines()[0]
        msg = f"{path} is of another network ({reason}). Delete it to begin the stage again."
        raise InputError(msg) from None
    return facts


def _part(tensors: State, prefix: str) -> State:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
