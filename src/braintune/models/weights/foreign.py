"""Reading publishers' checkpoints without running any code that they hold.

Checkpoints are pickles, which can name any function of the machine to be called. They are read by
the unpickler of torch that knows tensors and plain values alone. What else a checkpoint holds, such
as the hyper-parameters of a training library, becomes an object that does nothing.
"""

import pickletools
import warnings
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from pathlib import Path
from typing import IO, Any

import torch

from braintune.errors import InputError, listing
from braintune.models.weights.tensors import read_tensors

# An old checkpoint is this many pickles and then the numbers.
_PICKLES = 5
# What files are that were saved in place of a checkpoint, by how they begin.
_OTHERS = {
    b"<": "a web page, such as one that asks for a login",
    b"version https://git-lfs": "a pointer of Git LFS instead of the file itself",
    b"PK": "a zip archive that is cut short or damaged",
}
# What only a checkpoint that was tampered with asks for. None would run; the user should know.
_TAMPERED = {"os", "posix", "nt", "sys", "subprocess", "importlib", "runpy", "shutil", "socket"}
_TAMPERED |= {f"builtins.{name}" for name in ("eval", "exec", "compile", "__import__", "open")}
_SAVE_TENSORS = (
    "Load it where it was made, keep the tensors alone (model.state_dict()), and save them with"
    " torch.save or safetensors."
)


class Inert:
    """What takes the place of a class that is not ours: takes everything and does nothing."""

    def __new__(cls, *_values: object, **_more: object) -> Any:
        """An object without content."""
        return super().__new__(cls)

    def __init__(self, *_values: object, **_more: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


class InertMapping(Inert):
    """What takes the place of a class of dictionaries, whose items come after it was made."""

    def __new__(cls, *_values: object, **_more: object) -> Any:
        """An empty dictionary of a type that torch's unpickler fills."""
        return OrderedDict()


def read_foreign(path: Path) -> dict[str, Any]:
    """Read a checkpoint of torch (``.pt``, ``.pth``, ``.ckpt``, …) or a safetensors file.

    Returns:
        What it holds: tensors, plain values, and inert objects in place of all others.

    Raises:
        InputError: If it is missing, damaged or no checkpoint, would have to run code, or holds
            more than its size allows.
    """
    if not path.is_file():
        raise InputError(f"The checkpoint {path} does not exist.")
    if path.suffix == ".safetensors":
        return read_tensors(path)
    _demand_checkpoint(path)
    document = _unpickled(path)
    if not isinstance(document, dict):
        msg = f"{path} holds a {type(document).__name__} instead of named tensors. {_SAVE_TENSORS}"
        raise InputError(msg)
    _demand_sane_sizes(document, path)
    return document


def _demand_checkpoint(path: Path) -> None:
    """Refuse files that are plainly something else, and archives that grow when they are read."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            start = file.read(64).lstrip()
        for begin, words in _OTHERS.items():
            if start.startswith(begin):
                raise InputError(f"{path} is no checkpoint but {words}. Get the file again.")
        return
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    names = {member.filename.rpartition("/")[2] for member in members}
    if "constants.pkl" in names:
        raise InputError(f"{path} is a TorchScript program, not a checkpoint. {_SAVE_TENSORS}")
    if "data.pkl" not in names:
        msg = f"{path} is a zip archive, not a checkpoint: it holds {listing(sorted(names))}."
        raise InputError(f"{msg} If the checkpoint is in it, unzip it and give that file.")
    # Torch stores without compression, so that no more can come out than there is.
    packed = [m.filename for m in members if m.compress_type != zipfile.ZIP_STORED]
    if packed or sum(member.file_size for member in members) > path.stat().st_size:
        msg = f"{path} would grow when it is read, which no checkpoint of torch does. Not read."
        raise InputError(msg)


def _unpickled(path: Path) -> Any:
    """The content, with the stand-ins that fit it: plain objects, else dictionaries."""
    names = _foreign_names(path)
    hostile = [name for name in names if {name, name.partition(".")[0]} & _TAMPERED]
    if hostile:
        msg = f"{path} asks to call {listing(hostile)}, which no honest checkpoint does. Nothing"
        raise InputError(f"{msg} of it was run. Do not open it with other programs either.")
    try:
        return _load(path, names, Inert)
    except InputError:
        if not names:
            raise
        return _load(path, names, InertMapping)


def _load(path: Path, names: list[str], kind: type[Inert]) -> Any:
    stand_ins: list[Any] = [
        _stand_in(name, Inert if name.startswith("numpy") else kind) for name in names
    ]
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(stand_ins):
            # Of pickle protocols and old storages, which the user can't change.
            warnings.simplefilter("ignore")
            return torch.load(
                path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
            )
    except OSError:
        raise
    # A damaged or hostile file can make torch raise anything.
    except Exception as error:
        reason = str(error.__context__ or error).partition("\n")[0].partition(". Please")[0]
        foreign = [name for name in names if not name.startswith(("torch.", "collections."))]
        asks = f" It asks for {listing(foreign)}." if foreign else ""
        msg = (
            f"{path} can't be read as tensors and plain values ({reason}); code of a checkpoint is"
            f" never run.{asks} Perhaps the file is damaged or no checkpoint: get it again. Else:"
            f" {_SAVE_TENSORS}"
        )
        raise InputError(msg) from None


def _stand_in(name: str, kind: type[Inert]) -> type[Inert]:
    """A class of a foreign name; nothing of that name is imported."""
    module, _, last = name.rpartition(".")
    return type(last, (kind,), {"__module__": module, "__qualname__": last})


def _foreign_names(path: Path) -> list[str]:
    """Names of the classes and functions that a checkpoint asks for; it is not unpickled.

    Those that torch itself allows are among them. Torch looks among its own first.
    """
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            return _globals(file)
    with zipfile.ZipFile(path) as archive:
        main = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        with archive.open(main) as file:
            return _globals(file)


def _globals(file: IO[bytes]) -> list[str]:
    names: set[str] = set()
    try:
        for _ in range(_PICKLES):
            names |= {
                _modern(*str(argument).split(" ", 1))
                for opcode, argument, _ in pickletools.genops(file)
                if opcode.name == "GLOBAL"
            }
    except (ValueError, zipfile.BadZipFile):
        # No pickle any more, or a damaged one; torch will say so.
        pass
    return sorted(names)


def _modern(module: str, name: str) -> str:
    """The name of today for what pickles call as Python 2 did, as torch translates it."""
    module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
    return f"{module}.{name}"


def _demand_sane_sizes(document: dict[str, Any], path: Path) -> None:
    """Refuse tensors that are views far larger than the file, which would fill the memory."""
    limit = 4 * path.stat().st_size + 1_000_000
    total, seen, rest = 0, set[int](), [document]
    while rest:
        value: Any = rest.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, torch.Tensor):
            total += value.numel() * value.element_size()
        elif isinstance(value, dict):
            rest += value.values()
        elif isinstance(value, list | tuple):
            rest += value
    if total > limit:
        size = path.stat().st_size / 1e6
        msg = f"{path} of {size:,.1f} MB claims tensors of {total / 1e6:,.1f} MB. It is not read."
        raise InputError(msg)
