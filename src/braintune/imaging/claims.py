"""Who works on what, where several machines share one folder: a file for each piece of work.

A claim is a file that only one process can make. Its owner touches it while it works, so a claim
that nobody touched for minutes is of a process that is gone. Claims save double work and guard
nothing: what is written whole or not at all may be written twice.
"""

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from braintune.files import explained, make_folder

_TOUCHED_EACH_S = 20.0
STALE_S = 180.0


class Claims:
    """The claims in one folder.

    Args:
        folder: Where they lie; it is made when the first is taken.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def held(self, name: str) -> Iterator[bool]:
        """Hold a claim while the block runs.

        Args:
            name: What is claimed, as a file name.

        Yields:
            Whether it is ours; if not, another process holds it.

        Example:
            >>> import tempfile
            >>> claims = Claims(Path(tempfile.mkdtemp()))
            >>> with claims.held("scan") as ours, claims.held("scan") as again:
            ...     ours, again
            (True, False)
        """
        make_folder(self._folder)
        path = self._folder / name
        if not self._take(path):
            yield False
            return
        ended = threading.Event()
        beat = threading.Thread(target=_touch, args=(path, ended), daemon=True)
        beat.start()
        try:
            yield True
        finally:
            ended.set()
            beat.join()
            path.unlink(missing_ok=True)

    def is_held(self, name: str) -> bool:
        """Whether a process that seems to live holds a claim."""
        path = self._folder / name
        return path.exists() and not self._is_stale(path)

    def now(self) -> int:
        """The time of the disk that the folder is on, in nanoseconds, whatever our clock says."""
        make_folder(self._folder)
        path = self._folder / f".{socket.gethostname()}.{os.getpid()}.{threading.get_ident()}"
        with explained(path):
            path.write_bytes(b"")
            time = path.stat().st_mtime_ns
            path.unlink(missing_ok=True)
        return time

    def _take(self, path: Path) -> bool:
        if self._is_stale(path):
            path.unlink(missing_ok=True)
        with explained(path):
            try:
                handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
            except FileExistsError:
                return False
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump({"host": socket.gethostname(), "pid": os.getpid()}, file)
        return True

    def _is_stale(self, path: Path) -> bool:
        """Whether a claim's owner is gone: not touched for minutes, or dead on this machine."""
        try:
            owner = json.loads(path.read_text(encoding="utf-8"))
            touched = path.stat().st_mtime_ns
        except FileNotFoundError:
            return False
        except json.JSONDecodeError:
            owner, touched = {}, path.stat().st_mtime_ns
        if owner.get("host") == socket.gethostname() and not _lives(int(owner["pid"])):
            return True
        return self.now() - touched > STALE_S * 1e9


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _touch(path: Path, ended: threading.Event) -> None:
    while not ended.wait(_TOUCHED_EACH_S):
        with suppress(OSError):
            os.utime(path)
