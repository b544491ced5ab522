"""Loading weights: every key fits or was declared, or nothing is loaded and an error says why."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from braintune.errors import InputError, listing
from braintune.files import read_json, write_json
from braintune.models.backbone import Backbone, InputShape, TokenGrid, build_backbone
from braintune.models.weights.adaptation import (
    inflate,
    resize_positions,
    resize_table,
    sum_channels,
)
from braintune.models.weights.places import demand_file, file_of
from braintune.models.weights.record import Adaptation, WeightRecord, find_record
from braintune.models.weights.tensors import read_facts, read_tensors, write_tensors
from braintune.registry import explain

_COUNTER = "num_batches_tracked"
# Tensors that may well be zero throughout: what norms and layers add.
_MAY_BE_ZERO = ("bias", "running_mean", _COUNTER)
_FOLDER_RECORD, _FOLDER_TENSORS = "record.json", "weights.safetensors"


@dataclass(frozen=True)
class LoadReport:
    """What loading did, key by key.

    Attributes:
        loaded: Keys that were loaded as they are.
        adapted: Keys that were loaded after a change, and the change.
        new: Keys that the set does not hold; they start at random.
        unused: Keys of the published file that were not taken, such as its head's.
        parameters: How many of the network's numbers come from the set.
        total: How many numbers the network has.
    """

    loaded: tuple[str, ...]
    adapted: Mapping[str, str]
    new: tuple[str, ...]
    unused: tuple[str, ...]
    parameters: int
    total: int

    def text(self) -> str:
        """One line for people."""
        share = 100 * self.parameters / max(self.total, 1)
        parts = [f"{len(self.loaded)} tensors loaded as they are"]
        if self.adapted:
            changes = listing(f"{key} ({how})" for key, how in self.adapted.items())
            parts.append(f"{len(self.adapted)} adapted: {changes}")
        if self.new:
            parts.append(f"{len(self.new)} new, which start at random: {listing(self.new, 4)}")
        if self.unused:
            parts.append(f"{len(self.unused)} of the file not used: {listing(self.unused, 4)}")
        return f"{share:.1f} % of the backbone's numbers come from the weights; " + "; ".join(parts)


@dataclass(frozen=True)
class WeightSet:
    """Weights as they lie on the disk.

    Attributes:
        path: The safetensors file, of the backbone's own keys.
        record: What is known of them; None for a bare file, which must fit as it is.
    """

    path: Path
    record: WeightRecord | None = None

    @property
    def adaptation(self) -> Adaptation:
        """What may differ between the set and the network."""
        return self.record.adaptation if self.record else Adaptation()


def find_weights(backbone: str, weights: str) -> WeightSet | None:
    """Find what a recipe calls ``weights``.

    Args:
        backbone: The backbone that they are for.
        weights: ``"none"``, the tag of a weight record, the path of a safetensors file of the
            backbone's own keys, or a weight folder.

    Returns:
        None for ``"none"``.

    Raises:
        InputError: If there are none such, or they are of another backbone.
    """
    if weights == "none":
        return None
    path = Path(weights)
    if path.is_dir():
        return _open_folder(path, backbone)
    if path.suffix == ".safetensors" or path.is_file() or len(path.parts) > 1:
        return WeightSet(path)
    record = find_record(backbone, weights)
    return WeightSet(file_of(record), record)


def load_backbone(name: str, given: InputShape, weights: str, options: dict[str, Any]) -> Backbone:
    """Make a backbone and load its weights.

    Args:
        name: The backbone.
        given: Channels and shape of the input.
        weights: As in `find_weights`; ``"none"`` for random weights.
        options: The backbone's options; those that the weights need are added.

    Raises:
        InputError: If anything about the weights is not as their record declares.
    """
    found = find_weights(name, weights)
    if found is not None and found.record is not None:
        options = found.record.demand_options(options)
    backbone = build_backbone(name, given, options)
    if found is not None:
        load_weights(backbone, found)
    return backbone


def load_weights(network: Backbone, weights: WeightSet) -> LoadReport:
    """Load a weight set into a network; fails closed.

    Raises:
        InputError: If the file is missing or broken, or any key is missing, unknown, of another
            shape or kind, all zeros or not finite, beyond what the record declares.
    """
    state, report = fit_weights(network, weights)
    network.load_state_dict({**network.state_dict(), **state})
    return report


def fit_weights(
    network: Backbone, weights: WeightSet
) -> tuple[dict[str, torch.Tensor], LoadReport]:
    """The state that `load_weights` would load; the network may be on the meta device.

    Raises:
        InputError: As `load_weights`.
    """
    record = weights.record
    path = demand_file(record) if record and weights.path == file_of(record) else weights.path
    state = read_tensors(path)
    unused = tuple(read_facts(path).get("unused", "").split())
    return fit_state(state, network, weights.adaptation, path, unused)


def fit_state(
    state: dict[str, torch.Tensor],
    network: Backbone,
    adaptation: Adaptation,
    origin: Path,
    unused: tuple[str, ...] = (),
) -> tuple[dict[str, torch.Tensor], LoadReport]:
    """Make tensors fit a network in the declared ways alone.

    Args:
        state: The set's tensors by the backbone's keys.
        network: The network, which is not changed.
        adaptation: What may differ.
        origin: Where the tensors come from, for messages.
        unused: Keys that were left out before, for the report.

    Raises:
        InputError: With every key that is missing, unknown, of another shape or kind, all zeros,
            or not finite.
    """
    expected = network.state_dict()
    fitted: dict[str, torch.Tensor] = {}
    adapted: dict[str, str] = {}
    new: list[str] = []
    problems = [f"unknown {key}" for key in state if key not in expected]
    for key, want in expected.items():
        if key not in state:
            if _is_declared_new(key, adaptation):
                new.append(key)
            else:
                problems.append(f"missing {key}")
            continue
        have, changes = _adapt(key, state[key], want, network, adaptation)
        fault = _fault(key, have, want)
        if fault:
            problems.append(fault)
        fitted[key] = have
        if changes:
            adapted[key] = ", ".join(changes)
    if problems:
        msg = f"{origin} does not fit the network, nothing was loaded: {listing(problems)}."
        raise InputError(msg)
    report = LoadReport(
        loaded=tuple(key for key in fitted if key not in adapted),
        adapted=adapted,
        new=tuple(key for key in new if not key.endswith(_COUNTER)),
        unused=unused,
        parameters=sum(value.numel() for value in fitted.values()),
        total=sum(value.numel() for value in expected.values()),
    )
    return fitted, report


def _is_declared_new(key: str, adaptation: Adaptation) -> bool:
    # Old versions of torch did not count batches, and nothing is computed from the count.
    return key.endswith(_COUNTER) or any(re.fullmatch(p, key) for p in adaptation.new)


def _adapt(
    key: str, have: torch.Tensor, want: torch.Tensor, network: Backbone, adaptation: Adaptation
) -> tuple[torch.Tensor, list[str]]:
    """A tensor changed in the declared ways, and what they were."""
    changes = []
    if adaptation.inflate and have.ndim == 4 and want.ndim == 5:
        have = inflate(have, want.shape[2])
        changes.append(f"inflated along x by {want.shape[2]}")
    if _sees_images(key, adaptation) and have.shape[1] != want.shape[1]:
        changes.append(f"{have.shape[1]} image channels summed to {want.shape[1]}")
        have = sum_channels(have, want.shape[1])
    if key in adaptation.positions and key in network.token_grids:
        grid, wanted = TokenGrid(*adaptation.positions[key]), network.token_grids[key]
        fits = have.ndim == 3 and have.shape[1] == grid.extra + _count(grid.shape)
        if fits and grid != wanted and grid.extra == wanted.extra:
            changes.append(f"tokens resized from {_times(grid.shape)} to {_times(wanted.shape)}")
            have = resize_positions(have, grid, wanted)
    is_table = adaptation.relative is not None and re.fullmatch(adaptation.relative, key)
    if is_table and have.shape != want.shape and have.ndim == want.ndim == 2:
        changes.append(f"distances resized from {len(have)} to {len(want)}")
        have = resize_table(have, len(want))
    return have, changes


def _sees_images(key: str, adaptation: Adaptation) -> bool:
    pattern = adaptation.first_layer
    return pattern is not None and re.fullmatch(pattern, key) is not None


def _fault(key: str, have: torch.Tensor, want: torch.Tensor) -> str | None:
    """What is wrong with one tensor."""
    if have.shape != want.shape:
        return f"{key} is {list(have.shape)} instead of {list(want.shape)}"
    if have.is_floating_point() != want.is_floating_point():
        return f"{key} is of the kind {have.dtype} instead of {want.dtype}"
    if not torch.isfinite(have).all():
        return f"{key} holds NaN or infinity"
    if have.numel() and not have.any() and not key.endswith(_MAY_BE_ZERO):
        return f"{key} is all zeros"
    return None


def _count(shape: tuple[int, ...]) -> int:
    return int(torch.Size(shape).numel())


def _times(shape: tuple[int, ...]) -> str:
    return "×".join(str(n) for n in shape)


def _open_folder(folder: Path, backbone: str) -> WeightSet:
    values = read_json(folder / _FOLDER_RECORD)
    try:
        record = WeightRecord.model_validate(values)
    except ValidationError as error:
        described = explain(error, WeightRecord, "")
        raise InputError(f"{folder / _FOLDER_RECORD} is no weight record: {described}") from None
    if record.backbone != backbone:
        msg = (
            f"{folder} holds weights of {record.backbone}, but the recipe's backbone is {backbone}."
        )
        raise InputError(msg)
    return WeightSet(folder / _FOLDER_TENSORS, record)


def save_folder(folder: Path, record: WeightRecord, state: dict[str, torch.Tensor]) -> None:
    """Write a weight folder, which recipes take as ``weights``; the record is written last."""
    write_tensors(folder / _FOLDER_TENSORS, state, record=record.name)
    write_json(folder / _FOLDER_RECORD, record.model_dump(mode="json"))
