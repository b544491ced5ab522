"""Fetching weights: download, check, convert; nothing half-done is ever taken for whole."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from braintune.console import say
from braintune.errors import InputError
from braintune.files import explained, make_folder
from braintune.models.weights.conversion import convert
from braintune.models.weights.download import Download, RefusedError, download
from braintune.models.weights.places import file_of, how_to_get, weights_folder
from braintune.models.weights.record import Source, WeightRecord


def fetch(record: WeightRecord, *, offline: bool = False) -> Path:
    """Have a record's converted file on this computer.

    Args:
        record: The weights.
        offline: Open no connection, which ``BRAINTUNE_OFFLINE=1`` in the environment says too.

    Returns:
        The safetensors file of the backbone's own keys.

    Raises:
        InputError: If it can't be fetched, is another file than the record means, or does not fit
            the backbone. Of a broken connection the part is kept, else nothing.
    """
    path = file_of(record)
    if path.is_file():
        return path
    source = record.source
    if source is None or source.url is None:
        msg = f"The weights {record.name} can't be fetched by a program. {how_to_get(record)}"
        raise InputError(msg)
    folder = weights_folder() / "downloads" / record.name
    published = folder / source.file
    if (offline or is_offline()) and not published.is_file():
        raise InputError(_offline_text(record, source, path))
    with _alone(folder.with_name(f"{record.name}.lock"), record.name):
        # Another process may have fetched it while this one waited.
        if not path.is_file():
            if not published.is_file():
                _download(record, source, published)
            _convert(record, published, path)
    return path


def is_offline() -> bool:
    """Whether the environment forbids connections: ``BRAINTUNE_OFFLINE=1``."""
    return os.environ.get("BRAINTUNE_OFFLINE", "").lower() not in {"", "0", "false", "no"}


def _download(record: WeightRecord, source: Source, published: Path) -> None:
    token = hub_token() if source.gated else None
    part = published.with_name(f"{published.name}.part")
    try:
        download(Download(record.name, str(source.url), source.size, token), part)
    except RefusedError as error:
        raise InputError(_refusal_text(record, source, error.status)) from None
    finally:
        _drop_if_empty(published.parent)
    with explained(published):
        part.replace(published)


def _convert(record: WeightRecord, published: Path, path: Path) -> None:
    """Convert the download, and drop it whether it was right or not."""
    try:
        convert(published, record, path)
    except InputError as error:
        shutil.rmtree(published.parent)
        if isinstance(error.__cause__, OSError):
            raise
        raise InputError(f"{error} The download was deleted.") from None
    shutil.rmtree(published.parent)


def hub_token() -> str | None:
    """The user's token for huggingface.co: ``$HF_TOKEN``, or what ``hf auth login`` wrote."""
    if token := os.environ.get("HF_TOKEN", "").strip():
        return token
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = Path(os.environ.get("HF_HOME") or cache / "huggingface")
    path = Path(os.environ.get("HF_TOKEN_PATH") or home / "token")
    return path.read_text(encoding="utf-8").strip() or None if path.is_file() else None


def _offline_text(record: WeightRecord, source: Source, path: Path) -> str:
    return (
        f"The weights {record.name} are not on this computer, and it is offline (--offline or"
        f" BRAINTUNE_OFFLINE). On a computer with a network, give 'braintune models fetch"
        f" {record.name}' and copy {path.name} from there to {path}; or download {source.url} and"
        f" give 'braintune models convert {record.name} DOWNLOADED_FILE' here."
    )


def _refusal_text(record: WeightRecord, source: Source, status: int) -> str:
    page = str(source.url).partition("/resolve/")[0]
    if status in {401, 403} and source.gated:
        return (
            f"{record.name} is given only to who accepted its licence ({record.licence}): the host"
            f" answered with {status}. Accept it at {page}, make a token there for reading, and set"
            " HF_TOKEN to it. Then give the same command again."
        )
    gone = "The file is gone or has moved. " if status in {404, 410} else ""
    return (
        f"{source.url} could not be fetched: the host answered with {status}. {gone}If you have"
        f" the file, give 'braintune models convert {record.name} DOWNLOADED_FILE'."
    )


def _drop_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


@contextmanager
def _alone(lock: Path, name: str) -> Iterator[None]:
    """Let one process at a time fetch the same weights; the others wait for it."""
    make_folder(lock.parent)
    while True:
        with explained(lock):
            file = lock.open("w")
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f"Another process is fetching {name}. Waiting for it.")
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError:
                # Some file systems of clusters have no locks.
                say(f"{lock.parent} knows no locks: let no other process fetch {name} now.")
            # Who was before has removed the file that this process waited for.
            if lock.exists() and os.path.samestat(os.fstat(file.fileno()), lock.stat()):
                try:
                    yield
                finally:
                    lock.unlink()
                return
