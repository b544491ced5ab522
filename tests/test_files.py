import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from braintune.errors import InputError
from braintune.files import (
    append_line,
    digest,
    explained,
    json_text,
    read_json,
    read_lines,
    write_bytes,
    write_json,
)


def test_a_failed_write_leaves_the_old_file_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.bin"
    write_bytes(path, b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"No room to write .*a\.bin"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_writing_below_a_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="a file has that name"):
        write_bytes(tmp_path / "file" / "a.bin", b"x")


def test_other_errors_pass_through(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="strange"), explained(tmp_path):
        raise OSError(errno.EIO, "strange")


def test_written_files_are_readable_by_the_group(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"x")
    assert (tmp_path / "a").stat().st_mode & 0o044


def test_json_has_no_nan_and_takes_numpy(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": float("nan"), "b": np.float32(1.5), "c": (Path("x"),)})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": None, "b": 1.5, "c": ["x"]}


def test_broken_and_missing_json_are_input_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_json(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(InputError, match="is not a JSON file"):
        read_json(tmp_path / "bad.json")


def test_lines_survive_one_that_was_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    append_line(path, {"a": 1})
    with path.open("a") as file:
        file.write('{"b": ')
    assert read_lines(path) == [{"a": 1}]
    assert read_lines(tmp_path / "none") == []


@given(st.dictionaries(st.text(), st.integers() | st.text()))
def test_digest_ignores_order_only(values: dict[str, object]) -> None:
    assert digest(values) == digest(dict(reversed(values.items())))
    assert digest(values) != digest({**values, "new key": 1, "other": 2})


@given(st.recursive(st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)))
def test_json_text_is_always_json(value: object) -> None:
    json.loads(json_text(value))
