"""The deployable model: all folds' networks and what predicting needs, without naming a subject."""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from braintune._version import __version__
from braintune.errors import InputError
from braintune.evaluation.bias import AgeBias
from braintune.files import read_json, write_json
from braintune.fitting.checkpoint import moving_state
from braintune.fitting.network import Network, make_network
from braintune.fitting.typicality import Typicality
from braintune.models.weights.tensors import read_tensors, write_tensors
from braintune.recipe import Recipe
from braintune.tasks.task import TASKS, AnyTask, Task

_FROZEN = "frozen.safetensors"


@dataclass(frozen=True)
class Member:
    """One fold's network as it is deployed.

    Attributes:
        file: The file of what was trained.
        sha256: That file's hash.
        task: The fold's task, with what it learnt from the training rows.
        threshold: The operating point, NaN where there is none.
        bias: The pull to the mean, or None where it is not adjusted for.
    """

    file: str
    sha256: str
    task: Task
    threshold: float
    bias: AgeBias | None


@dataclass(frozen=True)
class Model:
    """A run's networks and what predicting needs.

    Attributes:
        folder: Where the files are.
        recipe: The recipe that made it.
        members: One a fold.
        typicality: What training scans look like.
        seen: Hashes of the prepared scans that the run trained or tested with.
    """

    folder: Path
    recipe: Recipe
    members: tuple[Member, ...]
    typicality: Typicality
    seen: frozenset[str]


def save_member(folder: Path, number: int, network: Network) -> tuple[str, str]:
    """Write one fold's network: what was trained; what is frozen is written once for all folds.

    Returns:
        The file's name and hash.
    """
    name = f"fold-{number + 1}.safetensors"
    trained = moving_state(network)
    write_tensors(folder / name, trained)
    frozen = {k: v for k, v in network.state_dict().items() if k not in trained}
    if frozen and not (folder / _FROZEN).exists():
        write_tensors(folder / _FROZEN, frozen)
    return name, _sha256(folder / name)


def save_model(
    folder: Path, recipe: Recipe, members: list[dict[str, Any]], facts: dict[str, Any]
) -> None:
    """Write what binds the members together."""
    frozen = folder / _FROZEN
    write_json(
        folder / "model.json",
        {
            "version": __version__,
            "recipe": recipe.model_dump(mode="json"),
            "members": members,
            "frozen_sha256": _sha256(frozen) if frozen.exists() else None,
            **facts,
        },
    )


def member_document(
    saved: tuple[str, str], task: AnyTask, threshold: float, bias: AgeBias | None
) -> dict[str, Any]:
    """A member as JSON."""
    return {
        "file": saved[0],
        "sha256": saved[1],
        "task": task.state(),
        "threshold": threshold,
        "bias": asdict(bias) if bias else None,
    }


def open_model(run: Path) -> Model:
    """Open the model of a run that predicts values, or a model folder that was copied out of one.

    Raises:
        InputError: If there is none, a file is not what was written, or it gives label maps.
    """
    folder, document, recipe = read_model(run)
    members = tuple(_member(folder, values, recipe) for values in document["members"])
    return Model(
        folder=folder,
        recipe=recipe,
        members=members,
        typicality=Typicality.restore(document["typicality"]),
        seen=frozenset(document["seen"]),
    )


def read_model(run: Path) -> tuple[Path, dict[str, Any], Recipe]:
    """The folder, the description and the recipe of the model of a run, or of a model folder.

    Raises:
        InputError: If there is none, or what is frozen is not what was written.
    """
    folder = run if (run / "model.json").is_file() else run / "model"
    if not (folder / "model.json").is_file():
        msg = f"{run} holds no finished model. Give the same fit command again to finish the run."
        raise InputError(msg)
    document = read_json(folder / "model.json")
    if document["frozen_sha256"] and _sha256(folder / _FROZEN) != document["frozen_sha256"]:
        raise InputError(f"{folder / _FROZEN} is not the file that the run wrote.")
    return folder, document, Recipe.parse(document["recipe"])


def load_member(model: Model, member: Member) -> Network:
    """Make a member's network, with all its weights from the model's own files."""
    return load_network(model.folder, model.recipe, member.task, member.file)


def load_network(folder: Path, recipe: Recipe, task: AnyTask, file: str) -> Network:
    """Make one network of a model folder, with all its weights from the folder's own files.

    Raises:
        InputError: If the file does not fit the recipe.
    """
    # The backbone's own weights are in the model's files, so the original set is not needed.
    backbone = recipe.backbone.model_copy(update={"weights": "none"})
    network = make_network(recipe.model_copy(update={"backbone": backbone}), task)
    state = read_tensors(folder / file)
    if (folder / _FROZEN).exists():
        state |= read_tensors(folder / _FROZEN)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        msg = f"{folder / file} does not fit the model's recipe: {error}"
        raise InputError(msg) from None
    return network.eval()


def restored_task(recipe: Recipe, values: dict[str, Any]) -> AnyTask:
    """The task of a member, with what it learnt from its training rows."""
    return TASKS.get(recipe.task.kind).restore(values["task"])


def checked_file(folder: Path, values: dict[str, Any]) -> str:
    """The name of a member's file.

    Raises:
        InputError: If it is not in the folder, or not what was written.
    """
    name = str(values["file"])
    if Path(name).name != name:
        raise InputError(f"{folder} names a file outside of itself: {name!r}.")
    if not (folder / name).is_file() or _sha256(folder / name) != values["sha256"]:
        raise InputError(f"{folder / name} is missing or is not the file that the run wrote.")
    return name


def _member(folder: Path, values: dict[str, Any], recipe: Recipe) -> Member:
    threshold, task = values["threshold"], restored_task(recipe, values)
    if not isinstance(task, Task):
        raise InputError(f"{folder} gives label maps, not values. Use 'braintune segment'.")
    return Member(
        file=checked_file(folder, values),
        sha256=values["sha256"],
        task=task,
        threshold=float("nan") if threshold is None else float(threshold),
        bias=AgeBias(**values["bias"]) if values["bias"] else None,
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def ensemble_columns(outputs: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and spread (standard deviation) over members, each of shape (scans, columns)."""
    stacked = torch.stack(outputs)
    spread = stacked.std(dim=0) if len(outputs) > 1 else torch.full_like(stacked[0], torch.nan)
    return stacked.mean(dim=0), spread
