"""Downloading one file: it goes on where it stopped, and is never taken for whole before it is."""

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from braintune.console import progress, say
from braintune.errors import InputError
from braintune.files import explained, make_folder

_BLOCK = 1 << 20
_TIMEOUT = 60.0
# Seconds before each further try, as long as none brings any further.
PAUSES = (1.0, 5.0, 15.0)
_TRANSIENT = {408, 425, 429, 500, 502, 503, 504}
_LOCAL = {"localhost", "127.0.0.1", "::1"}
_HUB = "huggingface.co"
_NO_SUCH_RANGE = 416


@dataclass(frozen=True)
class Download:
    """What to download.

    Attributes:
        name: What it is called in messages.
        url: Where it is.
        size: Bytes, where known.
        token: A token for huggingface.co, which no other host is sent.
    """

    name: str
    url: str
    size: int | None = None
    token: str | None = None


class _BrokenOffError(Exception):
    """The connection ended before the file did, or the host had no time."""


class RefusedError(Exception):
    """The host answered, and not with the file.

    Attributes:
        status: The status of HTTP.
    """

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


def download(what: Download, part: Path) -> None:
    """Download a whole file to ``part``, or go on with what is there of it.

    Raises:
        InputError: If the connection broke off for good; then ``part`` is kept for the next time.
            Also if there is no room, or the host has another file; then nothing is kept.
        RefusedError: If the host refuses.
    """
    _demand_web(what.url)
    make_folder(part.parent)
    tries = 0
    while True:
        before = _size(part)
        try:
            _attempt(what, part)
        except _BrokenOffError as error:
            if _size(part) > before:
                tries = 0
            if tries == len(PAUSES):
                raise InputError(_broken_off(what, part, error)) from None
            say(f"{what.name}: {error}. Trying again in {PAUSES[tries]:g} s.")
            time.sleep(PAUSES[tries])
            tries += 1
        else:
            _validator_file(part).unlink(missing_ok=True)
            return


def _attempt(what: Download, part: Path) -> None:
    """One connection: from where the part ends, if the host still has the same file."""
    validator = _read_validator(part)
    have = _size(part) if validator else 0
    request = _request(what)
    if have:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", validator)
    with _opened(request, what) as response:
        if response.status == _NO_SUCH_RANGE and _ends_at(response, have):
            return
        goes_on = response.status == 206 and _start(response) == have
        if response.status != 200 and not goes_on:
            forget(part)
            raise _BrokenOffError("the host sent another piece than was asked for")
        start = have if goes_on else 0
        total = _total(response, start)
        _demand_size(what, total, part)
        if not goes_on:
            forget(part)
            _keep_validator(part, response)
        with _room(part), part.open("ab") as file:
            _receive(response, file, what, (start, total or what.size))
    if total is not None and _size(part) < total:
        raise _BrokenOffError(f"the connection ended after {_size(part):,} of {total:,} bytes")


def _receive(response: Any, file: IO[bytes], what: Download, span: tuple[int, int | None]) -> None:
    """Write what comes, with a bar in MB."""
    done, total = span
    with progress(f"Fetching {what.name}, MB", max(1, _mega(total or 1))) as bar:
        bar.skip(_mega(done))
        while block := _next_block(response):
            bar.advance(_mega(done + len(block)) - _mega(done))
            done += len(block)
            if total is not None and done > total:
                forget(Path(file.name))
                raise InputError(f"{what.url} has more than the {total:,} bytes that it should.")
            file.write(block)


def _next_block(response: Any) -> bytes:
    try:
        return bytes(response.read(_BLOCK))
    except (http.client.HTTPException, OSError) as error:
        raise _BrokenOffError(f"the connection ended ({error or type(error).__name__})") from None


@contextmanager
def _room(part: Path) -> Iterator[None]:
    """Say in words that the disk is full, and free what the part took."""
    try:
        with explained(part):
            yield
    except InputError:
        forget(part)
        raise


@contextmanager
def _opened(request: urllib.request.Request, what: Download) -> Iterator[Any]:
    """The host's answer: the file, a piece of it, or that there is no such piece."""
    opener = urllib.request.build_opener(_Redirects(what.token))
    try:
        response: Any = opener.open(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in _TRANSIENT:
            raise _BrokenOffError(f"the host answered with {error.code}") from None
        if error.code != _NO_SUCH_RANGE:
            raise RefusedError(error.code) from None
        response = error
    except (http.client.HTTPException, OSError) as error:
        reason = getattr(error, "reason", None) or error
        raise _BrokenOffError(f"no connection to {urlsplit(what.url).netloc} ({reason})") from None
    with closing(response):
        yield response


def _request(what: Download) -> urllib.request.Request:
    # Compressed on the way, pieces would not fit each other.
    headers = {"User-Agent": "braintune", "Accept-Encoding": "identity"}
    request = urllib.request.Request(what.url, headers=headers)  # noqa: S310 (checked before)
    _authorise(request, what.token)
    return request


def _authorise(request: urllib.request.Request, token: str | None) -> None:
    """Show the token to its own host, encrypted; redirects do not carry it on."""
    parts = urlsplit(request.full_url)
    if token and parts.scheme == "https" and parts.hostname == _HUB:
        request.add_unredirected_header("Authorization", f"Bearer {token}")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects on the web, but none from an encrypted to an open connection."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    def redirect_request(
        self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str
    ) -> Any:
        _demand_web(newurl)
        new = urlsplit(newurl)
        opened = urlsplit(req.full_url).scheme == "https" and new.scheme == "http"
        if opened and new.hostname not in _LOCAL:
            raise InputError(f"{req.full_url} leads to the unprotected {newurl}. Not fetched.")
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None:
            _authorise(request, self._token)
        return request


def forget(part: Path) -> None:
    """Remove what was downloaded."""
    part.unlink(missing_ok=True)
    _validator_file(part).unlink(missing_ok=True)


def _demand_web(url: str) -> None:
    if urlsplit(url).scheme not in {"http", "https"}:
        raise InputError(f"{url} is no address of the web (https://…).")


def _demand_size(what: Download, total: int | None, part: Path) -> None:
    if total is not None and what.size is not None and total != what.size:
        forget(part)
        msg = f"{what.url} has {total:,} bytes instead of {what.size:,}: another file than the"
        raise InputError(f"{msg} record of {what.name} means. Nothing was kept.")


def _total(response: Any, start: int) -> int | None:
    """Bytes of the whole file, if the host tells."""
    length = response.headers.get("Content-Length", "")
    return start + int(length) if length.isdigit() else None


def _start(response: Any) -> int | None:
    """Where the piece begins that the host sends."""
    unit, _, span = response.headers.get("Content-Range", "").partition(" ")
    first = span.partition("-")[0]
    return int(first) if unit == "bytes" and first.isdigit() else None


def _ends_at(response: Any, size: int) -> bool:
    """Whether a file is as long as what is there of it, so that nothing is left to send."""
    return bool(response.headers.get("Content-Range", "") == f"bytes */{size}")


def _keep_validator(part: Path, response: Any) -> None:
    """Remember by what the host knows this version of its file, to go on with no other."""
    validator = response.headers.get("ETag") or ""
    if not validator.startswith('"'):
        validator = response.headers.get("Last-Modified") or ""
    with explained(part):
        part.touch()
        _validator_file(part).write_text(validator, encoding="latin-1")


def _read_validator(part: Path) -> str:
    path = _validator_file(part)
    return path.read_text(encoding="latin-1") if path.exists() else ""


def _validator_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.version")


def _broken_off(what: Download, part: Path, error: Exception) -> str:
    """What to tell of a part; one that can't be gone on with is removed."""
    if _size(part) and _read_validator(part):
        remedy = f"{_size(part):,} bytes are kept in {part}; the same command goes on from there."
    else:
        forget(part)
        remedy = "Try again later."
    return f"{what.name} could not be fetched from {what.url}: {error}. {remedy}"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _mega(size: int) -> int:
    return size // 1_000_000
