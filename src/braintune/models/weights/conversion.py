"""From a publisher's checkpoint to the backbone's own keys, as the weight record says."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from braintune._version import __version__
from braintune.errors import InputError, listing, nearest
from braintune.models.backbone import BACKBONES, InputShape, build_backbone
from braintune.models.weights.foreign import read_foreign
from braintune.models.weights.loading import fit_state
from braintune.models.weights.record import Conversion, Source, WeightRecord
from braintune.models.weights.tensors import sha256_of, write_tensors

State = dict[str, torch.Tensor]

_ROWS = re.compile(r"((?:.*\.)?patch_embeddings\.)1\.(weight|bias)")
_QUERY = re.compile(r"((?:.*\.)?)q\.(weight|bias)")


def convert(path: Path, record: WeightRecord, out: Path) -> Path:
    """Write a published file as safetensors of the backbone's own keys, if it fits the backbone.

    Args:
        path: The publisher's file.
        record: What it is.
        out: The safetensors file to write.

    Raises:
        InputError: If it is not the file that the record means, can't be read without running
            code, or does not fit the backbone; then nothing is written.
    """
    if out.resolve() == path.resolve():
        raise InputError(f"{out} would replace the file that it is made from. Give another --out.")
    sha256 = demand_published(path, record.source)
    document = read_foreign(path)
    state = convert_state(document, record)
    unused = unused_keys(document, record.conversion)
    _demand_fits(state, record, path)
    facts = {"record": record.name, "sha256": sha256, "braintune": __version__}
    write_tensors(out, state, **facts, unused="\n".join(unused))
    return out


def demand_published(path: Path, source: Source | None) -> str:
    """Make sure that a file is the one that was published, as far as its record knows it.

    Returns:
        The file's sha256.

    Raises:
        InputError: If its size or hash differs.
    """
    if not path.is_file():
        raise InputError(f"The file {path} does not exist.")
    found = sha256_of(path)
    if source is None:
        return found
    size = path.stat().st_size
    if source.size is not None and size != source.size:
        msg = f"{path} has {size:,} bytes instead of {source.size:,}: cut short, or another file."
        raise InputError(f"{msg} Get it again.")
    if source.sha256 is not None and not found.startswith(source.sha256):
        msg = (
            f"{path} is not the published file: its sha256 should be {source.sha256} and is"
            f" {found[: len(source.sha256)]}. Get it again; if that does not help, the publisher"
            " has changed it."
        )
        raise InputError(msg)
    return found


def convert_state(document: Mapping[str, Any], record: WeightRecord) -> State:
    r"""A checkpoint's tensors by the backbone's own keys, in float32, each in memory of its own.

    Args:
        document: What the checkpoint holds.
        record: Whose `conversion` says where the tensors are and what they are called.

    Raises:
        InputError: If the checkpoint is not as the record says.

    Example:
        >>> record = WeightRecord(
        ...     backbone="sfcn",
        ...     tag="mine",
        ...     licence="MIT",
        ...     citation="–",
        ...     conversion=Conversion(container=("model",), rename=((r"conv\.(.*)", r"0.\1"),)),
        ... )
        >>> list(convert_state({"model": {"conv.bias": torch.zeros(2)}}, record))
        ['0.bias']
    """
    conversion = record.conversion
    leaves = _leaves(document, conversion)
    taken = {key: leaves[key] for key in leaves if not _is_unused(key, conversion)}
    wrong = [f"{key} ({type(value).__name__})" for key, value in taken.items() if _is_odd(value)]
    if wrong:
        msg = f"The checkpoint of {record.name} holds what is no plain tensor: {listing(wrong)}."
        raise InputError(msg)
    state = _renamed(taken, conversion)
    for step in conversion.steps:
        state = _step(step)(state)
    return {key: _canonical(value) for key, value in state.items()}


def unused_keys(document: Mapping[str, Any], conversion: Conversion) -> list[str]:
    """The published keys that a conversion leaves out, such as the head's."""
    return [key for key in _leaves(document, conversion) if _is_unused(key, conversion)]


def _leaves(document: Mapping[str, Any], conversion: Conversion) -> dict[str, Any]:
    """What lies in the container, without the prefix."""
    level: Any = document
    for number, key in enumerate(conversion.container):
        if not isinstance(level, Mapping) or key not in level:
            where = ".".join(conversion.container[:number]) or "The checkpoint"
            there = listing(level) if isinstance(level, Mapping) else type(level).__name__
            raise InputError(f"{where} has no {key!r}; there is: {there}.")
        level = level[key]
    if not isinstance(level, Mapping):
        path = ".".join(conversion.container)
        raise InputError(f"{path} is a {type(level).__name__} instead of named tensors.")
    without = [str(key) for key in level if not str(key).startswith(conversion.strip)]
    if without:
        msg = f"These keys of the checkpoint do not begin with {conversion.strip!r}: "
        raise InputError(f"{msg}{listing(without)}.")
    return {str(key).removeprefix(conversion.strip): value for key, value in level.items()}


def _is_unused(key: str, conversion: Conversion) -> bool:
    return any(re.fullmatch(pattern, key) for pattern in conversion.unused)


def _is_odd(value: object) -> bool:
    """Whether a value is anything but a plain tensor in memory."""
    if not isinstance(value, torch.Tensor):
        return True
    return value.layout != torch.strided or value.is_quantized or value.device.type != "cpu"


def _renamed(taken: State, conversion: Conversion) -> State:
    state: State = {}
    before: dict[str, str] = {}
    for key, value in taken.items():
        new = _new_name(key, conversion)
        if new in state:
            raise InputError(f"{before[new]} and {key} of the checkpoint both become {new}.")
        state[new], before[new] = value, key
    return state


def _new_name(key: str, conversion: Conversion) -> str:
    for pattern, replacement in conversion.rename:
        if match := re.fullmatch(pattern, key):
            return match.expand(replacement)
    return key


def _canonical(value: torch.Tensor) -> torch.Tensor:
    """A copy in memory of its own, in float32 if it is of floating point."""
    dtype = torch.float32 if value.is_floating_point() else value.dtype
    return torch.empty(value.shape, dtype=dtype).copy_(value.detach())


def _step(name: str) -> Callable[[State], State]:
    if name not in STEPS:
        msg = f"Unknown conversion step {name!r}.{nearest(name, STEPS)}"
        raise InputError(f"{msg} There are: {', '.join(STEPS)}.")
    return STEPS[name]


def fuse_qkv(state: State) -> State:
    """Join the layers ``q``, ``k`` and ``v`` of attention to one ``qkv``, in this order of rows.

    A bias of the keys that is missing is zero: it would add the same to all logits of a softmax,
    so some networks leave it out.

    Example:
        >>> state = {f"{name}.weight": torch.ones(2, 2) for name in "qkv"}
        >>> fuse_qkv(state)["qkv.weight"].shape
        torch.Size([6, 2])
    """
    fused: State = dict(state)
    for key in state:
        if not (match := _QUERY.fullmatch(key)):
            continue
        layer, kind = match.groups()
        parts = {name: fused.pop(f"{layer}{name}.{kind}", None) for name in "qkv"}
        if kind == "bias" and parts["k"] is None and parts["v"] is not None:
            parts["k"] = torch.zeros_like(parts["v"])
        there = [part for part in parts.values() if part is not None]
        if len(there) < len(parts) or f"{layer}qkv.{kind}" in state:
            missing = [f"{layer}{name}.{kind}" for name, part in parts.items() if part is None]
            problem = (
                f"missing {listing(missing)}" if missing else f"{layer}qkv.{kind} is there too"
            )
            raise InputError(f"{key} can't be joined with its keys and values: {problem}.")
        fused[f"{layer}qkv.{kind}"] = torch.cat(there)
    return fused


def cubes_from_rows(state: State) -> State:
    """Make kernels of patch embeddings that were written as linear layers of flattened cubes.

    MONAI's "perceptron" embedding flattens a cube as (x, y, z, channel) and keeps its linear layer
    as ``….1``; a convolution with the same numbers computes the same.

    Example:
        >>> state = {"patch_embeddings.1.weight": torch.ones(6, 64)}
        >>> cubes_from_rows(state)["patch_embeddings.weight"].shape
        torch.Size([6, 1, 4, 4, 4])
    """
    made: State = {}
    for key, value in state.items():
        match = _ROWS.fullmatch(key)
        if match and match.group(2) == "weight":
            # A cube of one channel has a whole cube root; with more channels, the first that fits.
            edge = next(
                n
                for n in range(round(value.shape[1] ** (1 / 3)), 0, -1)
                if not value.shape[1] % n**3
            )
            value = value.unflatten(1, (edge, edge, edge, -1)).permute(0, 4, 1, 2, 3)
        made["".join(match.groups()) if match else key] = value
    return made


STEPS: dict[str, Callable[[State], State]] = {
    "fuse-qkv": fuse_qkv,
    "cubes-from-rows": cubes_from_rows,
}


def _demand_fits(state: State, record: WeightRecord, path: Path) -> None:
    """Make sure that tensors are those of the network that was published."""
    shape = record.prepare.shape or BACKBONES.get(record.backbone).published.shape
    with torch.device("meta"):
        network = build_backbone(
            record.backbone, InputShape(record.channels, shape), record.options
        )
    fit_state(state, network, record.adaptation, path)
