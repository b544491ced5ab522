"""Adapters on the disk: what trains, and the hash of the frozen backbone that it belongs to.

An adapter's file holds what training changes and what the method keeps beside it, a few MB, and no
frozen tensor of the backbone. On any other backbone the same numbers would mean nothing, so the
file knows its own by a hash, and `load_adapter` refuses the rest.
"""

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from braintune._version import __version__
from braintune.adapters.adapter import (
    AdapterOptions,
    adapt,
    adapted_layers,
    check_options,
    detach,
    norms_of,
    norms_with_statistics,
)
from braintune.errors import InputError, counted, listing
from braintune.models.weights.tensors import read_facts, read_tensors, write_tensors

State = dict[str, torch.Tensor]


def save_adapter(
    network: nn.Module, name: str, options: Mapping[str, Any] | None, path: Path
) -> None:
    """Write what an adapter trained, and nothing that is frozen.

    What trains of the backbone itself, such as biases, norms or the last blocks, is part of the
    file under the backbone's own names.

    Args:
        network: The adapted network, not merged.
        name: The adapter that it was adapted by.
        options: That adapter's options.
        path: A .safetensors file.

    Raises:
        InputError: If the network is not adapted in this way, or the path can't be written.

    Example:
        Several adapters take turns on one backbone. Here the first comes back from its file:

        >>> import tempfile
        >>> from braintune.adapters.adapter import attach, detach
        >>> network = nn.Sequential(nn.Linear(3, 2))
        >>> x, file = torch.ones(1, 3), Path(tempfile.mkdtemp()) / "first.safetensors"
        >>> adapt(network, "lora", {"rank": 1})
        ['0']
        >>> save_adapter(network, "lora", {"rank": 1}, file)
        >>> first = detach(network)
        >>> load_adapter(network, file)
        ['0']
        >>> second = detach(network)
        >>> attach(network, first)
        >>> torch.equal(network(x), second["0"](x))
        True
    """
    checked = check_options(name, dict(options or {}))
    own, base = own_state(network, checked), base_state(network)
    if faults := _faults(own, _adapted_outline(network, name, checked), checked):
        msg = (
            f"The network is not adapted by {name!r} with these options, nothing was saved:"
            f" {listing(faults)}. Save before 'merge', with the options that 'adapt' was given."
        )
        raise InputError(msg)
    facts = {
        "adapter": name,
        "options": json.dumps(checked.model_dump(mode="json")),
        "braintune": __version__,
        "backbone": _described(network, base),
        "backbone_sha256": sha256_of_state(_without(base, own)),
    }
    write_tensors(path, own, **facts)


def load_adapter(network: nn.Module, path: Path) -> list[str]:
    """Adapt a plain network as a file says, and load what was trained.

    Nothing is changed unless all of it fits. The numbers of the file are taken as they are, also
    where the method starts from a decomposition of the weights.

    Args:
        network: The backbone that the adapter was trained on, without an adapter.
        path: A file of `save_adapter`.

    Returns:
        The names of the layers that were adapted.

    Raises:
        InputError: If the file is missing, broken or no adapter's, belongs to another backbone, or
            a tensor is missing, unknown, of another shape or kind, or not finite.
    """
    file = _read(path)
    if adapted_layers(network):
        msg = f"The network has an adapter already. 'detach' or 'merge' it before loading {path}."
        raise InputError(msg)
    _demand_same_backbone(network, file)
    outline = _adapted_outline(network, file.name, file.options)
    if faults := _faults(file.tensors, outline, file.options):
        msg = f"{path} does not fit its adapter {file.name!r}, nothing was loaded:"
        raise InputError(f"{msg} {listing(faults)}.")
    # What the method would draw or decompose is overwritten; the generators stay as they were.
    devices = [d for d in {p.device for p in network.parameters()} if d.type == "cuda"]
    with torch.random.fork_rng(devices):
        names = adapt(network, file.name, file.options.model_dump())
    _put(network, file.tensors)
    return names


def base_state(network: nn.Module) -> State:
    """A network's own tensors under the names that they have without the adapter."""
    layers = adapted_layers(network)
    inside = tuple(f"{name}." for name in layers)
    state = {k: v for k, v in _state(network).items() if not k.startswith(inside)}
    for name, layer in layers.items():
        state |= {f"{name}.{key}": value for key, value in _state(layer.base).items()}
    return state


def own_state(network: nn.Module, options: AdapterOptions) -> State:
    """What a file of an adapted network holds: what may differ from the backbone, each once.

    Args:
        network: The adapted network.
        options: The adapter's options.
    """
    base = base_state(network)
    known = {id(value) for value in base.values()}
    statistics = _moving_statistics(network, options)
    own = {k: v for k, v in base.items() if v.requires_grad or id(v) in statistics}
    own |= {k: v for k, v in _state(network).items() if id(v) not in known}
    first = {id(own[key]): key for key in sorted(own, reverse=True)}
    return {key: own[key] for key in sorted(first.values())}


def sha256_of_state(state: Mapping[str, torch.Tensor]) -> str:
    """The hash of named tensors: of their names, shapes, number formats and bytes.

    Example:
        >>> one, two = torch.zeros(2), torch.ones(3)
        >>> sha256_of_state({"a": one, "b": two}) == sha256_of_state({"b": two, "a": one})
        True
        >>> sha256_of_state({"a": one}) == sha256_of_state({"a": one.double()})
        False
    """
    total = hashlib.sha256()
    for key in sorted(state):
        value = state[key].detach().cpu().contiguous()
        total.update(json.dumps([key, list(value.shape), str(value.dtype)]).encode())
        total.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


@dataclass(frozen=True)
class _AdapterFile:
    """An adapter's file, read.

    Attributes:
        path: Where it is.
        name: The adapter.
        options: Its options.
        backbone: The backbone that it belongs to, in words.
        sha256: The hash of that backbone's frozen tensors.
        tensors: What trained.
    """

    path: Path
    name: str
    options: AdapterOptions
    backbone: str
    sha256: str
    tensors: State


def _read(path: Path) -> _AdapterFile:
    if not path.is_file():
        raise InputError(f"The adapter file {path} does not exist.")
    facts = read_facts(path)
    try:
        name, options = facts["adapter"], json.loads(facts["options"])
        backbone, sha256 = facts["backbone"], facts["backbone_sha256"]
    except (KeyError, json.JSONDecodeError):
        msg = f"{path} is no adapter file, which 'save_adapter' writes. Weights are loaded by"
        raise InputError(msg + " 'load_backbone'.") from None
    return _AdapterFile(
        path, name, check_options(name, options), backbone, sha256, read_tensors(path)
    )


def _demand_same_backbone(network: nn.Module, file: _AdapterFile) -> None:
    """Refuse a network whose tensors are not those that the adapter was trained beside."""
    state = base_state(network)
    found = sha256_of_state(_without(state, file.tensors))
    if found != file.sha256:
        msg = (
            f"{file.path} belongs to another backbone, nothing was loaded: to {file.backbone},"
            f" whose frozen tensors have the SHA-256 {file.sha256[:12]}…; here are"
            f" {_described(network, state)}, {found[:12]}…. Load the weights that the adapter was"
            " trained on first."
        )
        raise InputError(msg)


def _faults(tensors: State, outline: nn.Module, options: AdapterOptions) -> list[str]:
    """What keeps tensors from being all that an adapted network needs, and nothing else.

    Tensors of the backbone may be among them though the adapter freezes them: what its weights do
    not hold trains with the head.
    """
    base = base_state(outline)
    wanted = {key: base[key] for key in tensors if key in base} | own_state(outline, options)
    faults = [f"missing {key}" for key in wanted if key not in tensors]
    faults += [f"unknown {key}" for key in tensors if key not in wanted]
    for key, want in wanted.items():
        have = tensors.get(key, want)
        if have.shape != want.shape or have.dtype != want.dtype:
            faults.append(f"{key} is {_kind(have)} instead of {_kind(want)}")
        elif key in tensors and not torch.isfinite(have).all():
            faults.append(f"{key} holds NaN or infinity")
    return faults


def _put(network: nn.Module, tensors: State) -> None:
    """Put tensors in the place of a network's own; those of the backbone train from then on."""
    base = base_state(network)
    there = {**_state(network), **base}
    with torch.no_grad():
        for key, value in tensors.items():
            there[key].copy_(value)
    for key in tensors.keys() & base.keys():
        if isinstance(base[key], nn.Parameter):
            base[key].requires_grad_(True)


def _moving_statistics(network: nn.Module, options: AdapterOptions) -> set[int]:
    """Identities of the statistics that norms gather in training, or that are estimated anew."""
    resting = {} if options.norms == "recalibrate" else norms_with_statistics(network)
    return {
        id(buffer)
        for name, norm in norms_of(network)
        if name not in resting
        for buffer in norm.buffers()
    }


def _adapted_outline(network: nn.Module, name: str, options: AdapterOptions) -> nn.Module:
    """A copy of a network as an adapter makes it, without memory for its tensors."""
    stand_ins: dict[int, Any] = {}
    for tensor in [*network.parameters(), *network.buffers()]:
        empty = torch.empty_like(tensor, device="meta")
        is_parameter = isinstance(tensor, nn.Parameter)
        stand_ins[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if is_parameter else empty
    outline = copy.deepcopy(network, stand_ins)
    detach(outline)
    with torch.device("meta"):
        adapt(outline, name, options.model_dump())
    return outline


def _state(module: nn.Module) -> State:
    """Parameters and lasting buffers themselves, under each of their names."""
    return dict(module.state_dict(keep_vars=True))


def _without(state: State, others: Mapping[str, torch.Tensor]) -> State:
    """Part of a state, without the tensors that others hold, under whatever name."""
    gone = {id(state[key]) for key in others if key in state}
    return {key: value for key, value in state.items() if id(value) not in gone}


def _described(network: nn.Module, state: State) -> str:
    count = sum(value.numel() for value in {id(v): v for v in state.values()}.values())
    return f"{type(network).__name__} with {counted(count, 'number')}"


def _kind(tensor: torch.Tensor) -> str:
    return f"{list(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
