"""Writing files so that a reader, or a resumed run, never meets half of one."""

import errno
import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from braintune.errors import InputError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_UNWRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT}
_NOT_A_FOLDER = {errno.ENOTDIR, errno.EEXIST}


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what the operating system says of an output path into an error with a remedy.

    Raises:
        InputError: If the disk is full, or the path can't be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            msg = (
                f"No room to write {path} ({error.strerror}). Free some space or choose another"
                " place, then give the same command again: finished work is kept."
            )
        elif error.errno in _UNWRITABLE:
            msg = f"Not allowed to write {path} ({error.strerror}). Choose a folder you may write."
        elif error.errno in _NOT_A_FOLDER:
            msg = f"Cannot make the folder of {path}: a file has that name. Choose another folder."
        else:
            raise
        raise InputError(msg) from error


def cache_folder() -> Path:
    """``$BRAINTUNE_CACHE``, or a folder in the user's cache."""
    if chosen := os.environ.get("BRAINTUNE_CACHE"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "braintune"


def make_folder(path: Path) -> Path:
    """Make a folder and its parents.

    Raises:
        InputError: If it can't be made.
    """
    with explained(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


def is_occupied(path: Path) -> bool:
    """Whether a path is a file, or a folder that holds something."""
    return path.exists() and (not path.is_dir() or any(path.iterdir()))


def refuse_occupied(out: Path, what: str) -> None:
    """Refuse to write into a folder that holds something.

    Args:
        out: Where to write.
        what: What would be written, for the message.

    Raises:
        InputError: If the path is a file, or a folder that is not empty.
    """
    if is_occupied(out):
        raise InputError(f"{out} is not empty. Choose a new folder for {what}.")


def write_bytes(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write a whole file or nothing: to a temporary neighbour, then renamed into place.

    Args:
        path: The file.
        content: What it will hold.
        durable: Whether to wait until the disk has it. Without, a machine that loses power may
            leave a file of the right size with other bytes.

    Raises:
        InputError: If the disk is full, or the path can't be written.
    """
    make_folder(path.parent)
    with explained(path):
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def write_text(path: Path, content: str) -> None:
    """Write a whole UTF-8 text file or nothing."""
    write_bytes(path, content.encode())


def write_json(path: Path, document: Any) -> None:
    """Write a JSON document, with NaN and infinity as null, which JSON has no words for."""
    write_text(path, json_text(document) + "\n")


def json_text(document: Any) -> str:
    r"""The JSON text of a document.

    Example:
        >>> json_text({"auc": float("nan")})
        '{\n  "auc": null\n}'
    """
    return json.dumps(_finite(document), indent=2, ensure_ascii=False, allow_nan=False)


def read_json(path: Path) -> Any:
    """Read a JSON document.

    Raises:
        InputError: If the file is missing or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a JSON file: {error}.") from None


def append_line(path: Path, document: Any) -> None:
    """Append one JSON document as a line, in a single write that a killed process can't halve."""
    line = _json_line(document)
    make_folder(path.parent)
    with explained(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            _append_whole(descriptor, line.encode())
        finally:
            os.close(descriptor)


def write_lines(path: Path, documents: list[Any]) -> None:
    """Write one JSON document a line, the whole file or nothing."""
    write_text(path, "".join(_json_line(document) for document in documents))


def _json_line(document: Any) -> str:
    return json.dumps(_finite(document), ensure_ascii=False, allow_nan=False) + "\n"


def _append_whole(descriptor: int, line: bytes) -> None:
    """Append all of a line, or none of it where the disk has no room for all."""
    before = os.fstat(descriptor).st_size
    if os.write(descriptor, line) < len(line):
        os.ftruncate(descriptor, before)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def read_lines(path: Path) -> list[Any]:
    """Read a file of one JSON document a line; a line that a crash cut is skipped."""
    if not path.exists():
        return []
    documents = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            documents.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return documents


def digest(document: Any) -> str:
    """A short, stable fingerprint of a JSON-like document.

    Example:
        >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
        True
    """
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
