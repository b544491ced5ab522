import argparse
import enum
import importlib
import os
import pickle
import sys
import zipfile
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from braintune.errors import InputError
from braintune.models.weights import foreign
from braintune.models.weights.foreign import read_foreign


class Hostile:
    """Makes a file when it is unpickled by ordinary means."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.sentinel}",)


class HostileByEval(Hostile):
    def __reduce__(self) -> Any:
        return eval, (f"__import__('os').system('touch {self.sentinel}')",)


class HostileByOwnFunction(Hostile):
    def __reduce__(self) -> Any:
        return _touch, (str(self.sentinel),)


def _touch(path: str) -> None:
    Path(path).touch()


class Module(enum.Enum):
    """Pickled by REDUCE."""

    ENCODER = 1


class Settings(dict):  # type: ignore[type-arg]
    """As the hyper-parameters of Lightning: pickled by NEWOBJ, SETITEMS and BUILD."""


class Slotted:
    """Pickled by NEWOBJ and BUILD with a pair of states."""

    __slots__ = ("value",)

    def __init__(self, value: int) -> None:
        self.value = value


def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return OrderedDict(
        {
            "conv.weight": torch.randn(4, 2, 3, 3, 3, generator=generator),
            "conv.bias": torch.arange(4.0),
            "half": torch.ones(3, dtype=torch.bfloat16),
            "count": torch.tensor(7),
        }
    )


def equal(found: dict[str, Any]) -> bool:
    wanted = tensors()
    return found.keys() == wanted.keys() and all(
        value.dtype == found[key].dtype and torch.equal(value, found[key])
        for key, value in wanted.items()
    )


@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.p", "w.torch", "w.ckpt", "pytorch_model.bin"])
@pytest.mark.parametrize("as_zip", [True, False])
def test_checkpoints_of_torch_are_read(tmp_path: Path, name: str, as_zip: bool) -> None:
    path = tmp_path / name
    torch.save({"state_dict": tensors(), "epoch": 3}, path, _use_new_zipfile_serialization=as_zip)
    document = read_foreign(path)
    assert document["epoch"] == 3
    assert equal(document["state_dict"])


def test_safetensors_and_links_are_read(tmp_path: Path) -> None:
    save_file(tensors(), tmp_path / "w.safetensors")
    assert equal(read_foreign(tmp_path / "w.safetensors"))
    torch.save(tensors(), tmp_path / "blob")
    (tmp_path / "link.pt").symlink_to(tmp_path / "blob")
    assert equal(read_foreign(tmp_path / "link.pt"))


@pytest.mark.parametrize("as_zip", [True, False])
@pytest.mark.parametrize(
    "foreign_object",
    [
        argparse.Namespace(lr=1e-3, out=Path("/data")),
        Module.ENCODER,
        {Module.ENCODER: 1},
        Slotted(3),
        torch.optim.AdamW,
        nn.functional.relu,
        np.float64(0.5),
        np.arange(3),
        {"loss": torch.device("cpu"), "shape": torch.Size([1, 2]), "type": torch.float16},
        Settings(lr=1e-3, net=Settings(width=4)),
        defaultdict(list, {"loss": [np.float32(0.5)]}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_foreign_objects_do_not_hide_the_tensors(
    tmp_path: Path, foreign_object: object, as_zip: bool
) -> None:
    path = tmp_path / "last.ckpt"
    document = {"hyper_parameters": foreign_object, "state_dict": tensors(), "more": [1, "two"]}
    torch.save(document, path, _use_new_zipfile_serialization=as_zip)
    found = read_foreign(path)
    assert equal(found["state_dict"])
    assert found["more"] == [1, "two"]


def test_a_network_beside_the_tensors_does_not_hide_them(tmp_path: Path) -> None:
    torch.save({"model": nn.Linear(2, 2), "state_dict": tensors()}, tmp_path / "w.pt")
    assert equal(read_foreign(tmp_path / "w.pt")["state_dict"])


def test_foreign_classes_are_not_even_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The module of a class runs when it is imported, so it must not be."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "their_training.py").write_text("class Trainer:\n    pass\n")
    theirs = importlib.import_module("their_training")
    torch.save({"trainer": theirs.Trainer()}, tmp_path / "w.pt")
    monkeypatch.delitem(sys.modules, "their_training")
    found = read_foreign(tmp_path / "w.pt")["trainer"]
    assert isinstance(found, foreign.Inert)
    assert type(found).__name__ == "Trainer"
    assert "their_training" not in sys.modules


@pytest.mark.parametrize("hostile", [Hostile, HostileByEval])
@pytest.mark.parametrize("form", ["zip", "legacy", "pickle", "new pickle"])
def test_code_of_a_checkpoint_never_runs(tmp_path: Path, hostile: type[Hostile], form: str) -> None:
    sentinel, path = tmp_path / "sentinel", tmp_path / "w.pth"
    document = {"state_dict": tensors(), "extra": hostile(sentinel)}
    if "pickle" in form:
        content = pickle.dumps({"extra": hostile(sentinel)}, protocol=4 if "new" in form else 2)
        path.write_bytes(content)
    else:
        torch.save(document, path, _use_new_zipfile_serialization=form == "zip")
    tampered = r"asks to call \S*\.(system|eval), .*Nothing of it was run"
    with pytest.raises(InputError, match="is never run" if "new" in form else tampered):
        read_foreign(path)
    assert not sentinel.exists()


@pytest.mark.parametrize("as_zip", [True, False])
def test_functions_that_nobody_thought_of_are_not_run_either(tmp_path: Path, as_zip: bool) -> None:
    sentinel, path = tmp_path / "sentinel", tmp_path / "w.pth"
    document = {"state_dict": tensors(), "extra": HostileByOwnFunction(sentinel)}
    torch.save(document, path, _use_new_zipfile_serialization=as_zip)
    found = read_foreign(path)
    assert equal(found["state_dict"])
    assert isinstance(found["extra"], foreign.Inert)
    assert not sentinel.exists()


def test_the_hostile_checkpoint_would_have_run_its_code(tmp_path: Path) -> None:
    """So that the test above proves something."""
    sentinel = tmp_path / "sentinel"
    for hostile in (Hostile, HostileByEval, HostileByOwnFunction):
        pickle.loads(pickle.dumps(hostile(sentinel)))
        sentinel.unlink()


def save_whole(path: Path) -> None:
    torch.save({"state_dict": tensors()}, path)


def cut(path: Path) -> None:
    save_whole(path)
    path.write_bytes(path.read_bytes()[:-300])


def cut_legacy(path: Path) -> None:
    torch.save(tensors(), path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:-40])


def text(path: Path) -> None:
    path.write_text("participant_id\tage\nsub-1\t70\n")


def web_page(path: Path) -> None:
    path.write_text("\n<!DOCTYPE html><title>Sign in</title>")


def pointer(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("weights/model.pth", b"")


def program(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        for name in ("data.pkl", "constants.pkl", "code/__torch__.py"):
            file.writestr(f"m/{name}", b"")


def bomb(path: Path) -> None:
    """A checkpoint packed so that a small file fills the memory."""
    torch.save({"w": torch.zeros(2_000_000)}, path)
    with zipfile.ZipFile(path) as file:
        members = {member.filename: file.read(member) for member in file.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    assert path.stat().st_size < 100_000


def view(path: Path) -> None:
    torch.save({"w": torch.zeros(1).expand(10**13)}, path)


def many_views(path: Path) -> None:
    base = torch.zeros(1_000_000)
    torch.save({f"w{n}": base[n:] for n in range(100)}, path)


def lie(path: Path) -> None:
    """A checkpoint whose pickle claims a thousand times the numbers that its storage has."""
    torch.save({"w": torch.zeros(0x11)}, path)
    with zipfile.ZipFile(path) as file:
        members = {member.filename: file.read(member) for member in file.infolist()}
    content = members["w/data.pkl"]
    # The count in the storage's id, of one byte, becomes one of two; the shape likewise.
    members["w/data.pkl"] = content.replace(b"K\x11", b"M\x11\x44")
    assert members["w/data.pkl"] != content
    with zipfile.ZipFile(path, "w") as file:
        for name, member in members.items():
            file.writestr(name, member)


def damaged_pickle(path: Path) -> None:
    save_whole(path)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"conv.bias", b"conv.b\xffas", 1))


def whole_network(path: Path) -> None:
    torch.save(nn.Linear(2, 2), path)


def whole_network_of_old(path: Path) -> None:
    torch.save(nn.Linear(2, 2), path, _use_new_zipfile_serialization=False)


def bare_list(path: Path) -> None:
    torch.save([torch.zeros(2)], path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (cut, "zip archive that is cut short"),
        (cut_legacy, "damaged or no checkpoint"),
        (text, "damaged or no checkpoint"),
        (web_page, "a web page"),
        (pointer, "a pointer of Git LFS"),
        (empty, "damaged or no checkpoint"),
        (archive, "holds model.pth. If the checkpoint is in it, unzip it"),
        (program, "TorchScript program"),
        (bomb, "would grow when it is read"),
        (view, "claims tensors of 40,000,000.0 MB"),
        (many_views, "claims tensors of"),
        (lie, "damaged or no checkpoint"),
        (damaged_pickle, "damaged or no checkpoint"),
        (whole_network_of_old, "damaged or no checkpoint"),
        (whole_network, "holds a Linear instead of named tensors"),
        (bare_list, "holds a list instead of named tensors"),
    ],
)
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, make: Any, message: str) -> None:
    path = tmp_path / "w.pth"
    make(path)
    with pytest.raises(InputError, match=message) as raised:
        read_foreign(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_overlapping_members_are_refused(tmp_path: Path) -> None:
    """Many names of one piece of an archive, without compression."""
    path = tmp_path / "w.pth"
    save_whole(path)
    with zipfile.ZipFile(path, "a") as file:
        first = file.infolist()[0]
        for number in range(1000):
            twin = zipfile.ZipInfo(f"w/data/{number + 100}")
            twin.header_offset, twin.file_size = first.header_offset, first.file_size
            twin.compress_size, twin.CRC = first.compress_size, first.CRC
            file.filelist.append(twin)
        file._didModify = True  # type: ignore[attr-defined]
    total = sum(member.file_size for member in zipfile.ZipFile(path).infolist())
    assert total > path.stat().st_size
    with pytest.raises(InputError, match="would grow"):
        read_foreign(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none.pt does not exist"):
        read_foreign(tmp_path / "none.pt")
