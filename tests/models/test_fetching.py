import hashlib
import resource
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from braintune.errors import InputError
from braintune.models.backbone import InputShape, build_backbone
from braintune.models.weights import download as downloading
from braintune.models.weights.fetching import fetch
from braintune.models.weights.places import demand_file, file_of, weights_folder
from braintune.models.weights.record import Conversion, Source, WeightRecord
from braintune.models.weights.tensors import read_facts, read_tensors
from models.weight_host import Host, answer

OPTIONS = {"channels": [4, 8]}


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """A server of this computer, and no waiting between tries."""
    host = Host()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(host, self)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    host.url = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr(downloading, "PAUSES", (0, 0, 0))
    monkeypatch.setattr(downloading, "_BLOCK", 1024)
    yield host
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("BRAINTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("BRAINTUNE_OFFLINE", raising=False)
    monkeypatch.setenv("HF_TOKEN", "secret")
    return tmp_path / "cache"


@pytest.fixture
def record(host: Host, cache: Path, tmp_path: Path) -> WeightRecord:
    """A tiny SFCN that the host publishes."""
    torch.manual_seed(1)
    state = build_backbone("sfcn", InputShape(1, (32, 32, 32)), OPTIONS).state_dict()
    torch.save({"state_dict": state}, tmp_path / "w.pth")
    host.content = (tmp_path / "w.pth").read_bytes()
    return WeightRecord(
        backbone="sfcn",
        tag="tiny",
        options=OPTIONS,
        licence="CC-BY-NC-4.0",
        citation="–",
        conversion=Conversion(container=("state_dict",)),
        source=Source(
            url=f"{host.url}/files/w.pth",
            sha256=hashlib.sha256(host.content).hexdigest(),
            size=len(host.content),
        ),
    )


def changed(record: WeightRecord, **changes: Any) -> WeightRecord:
    assert record.source is not None
    return record.model_copy(update={"source": record.source.model_copy(update=changes)})


def files(cache: Path) -> set[str]:
    return {str(path.relative_to(cache)) for path in cache.rglob("*") if not path.is_dir()}


def is_right(path: Path, host: Host) -> bool:
    facts = read_facts(path)
    return facts["sha256"] == hashlib.sha256(host.content).hexdigest() and bool(
        read_tensors(path)["blocks.0.0.weight"].any()
    )


WHOLE = {"weights/sfcn.tiny.safetensors"}


def test_weights_are_fetched_once(record: WeightRecord, host: Host, cache: Path) -> None:
    with pytest.raises(InputError, match="Give 'braintune models fetch sfcn.tiny'"):
        demand_file(record)
    path = fetch(record)
    assert path == file_of(record) == demand_file(record)
    assert is_right(path, host)
    assert files(cache) == WHOLE
    assert fetch(record) == path
    assert len(host.seen) == 1


@pytest.mark.parametrize("times", [1, 2, 8])
def test_a_dropped_connection_is_taken_up_again(
    record: WeightRecord, host: Host, cache: Path, times: int
) -> None:
    host.drops = [500] * times
    assert is_right(fetch(record), host)
    starts = [None, *(f"bytes={500 * n}-" for n in range(1, times + 1))]
    assert host.asked("Range") == starts
    assert files(cache) == WHOLE


def test_a_part_is_kept_for_the_next_command(record: WeightRecord, host: Host, cache: Path) -> None:
    host.drops = [2000]
    host.statuses = [200, 503, 503, 503]
    with pytest.raises(InputError, match=r"503. 2,000 bytes are kept in .*\.part; the same comm"):
        fetch(record)
    part = "weights/downloads/sfcn.tiny/w.pth.part"
    assert files(cache) == {part, f"{part}.version"}
    assert is_right(fetch(record), host)
    assert host.asked("Range")[-1] == "bytes=2000-"
    assert host.asked("If-Range")[-1] == '"v1"'
    assert files(cache) == WHOLE


def test_a_part_of_an_older_version_is_not_gone_on_with(
    record: WeightRecord, host: Host, cache: Path
) -> None:
    host.drops, host.statuses = [2000], [200, 503, 503, 503]
    new = host.content
    host.content = bytes(len(new))
    with pytest.raises(InputError, match="are kept"):
        fetch(record)
    host.content, host.etag = new, '"v2"'
    assert is_right(fetch(record), host)
    assert files(cache) == WHOLE


def test_a_killed_process_leaves_a_whole_part(
    record: WeightRecord, host: Host, cache: Path
) -> None:
    """All had come, but it was not yet checked."""
    part = weights_folder() / "downloads" / record.name / "w.pth.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(host.content)
    part.with_name("w.pth.part.version").write_text('"v1"')
    assert is_right(fetch(record), host)
    assert len(host.seen) == 1
    assert files(cache) == WHOLE


@pytest.mark.parametrize("change", [{"ranges": False}, {"etag": ""}, {"etag": 'W/"weak"'}])
def test_a_host_that_sends_no_pieces_starts_anew(
    record: WeightRecord, host: Host, cache: Path, change: dict[str, Any]
) -> None:
    for key, value in change.items():
        setattr(host, key, value)
    host.drops = [3000]
    assert is_right(fetch(record), host)
    assert files(cache) == WHOLE
    assert len(host.seen) == 2


def test_a_part_that_is_of_no_use_is_not_kept(
    record: WeightRecord, host: Host, cache: Path
) -> None:
    host.etag, host.drops = "", [3000] * 9
    with pytest.raises(InputError, match=r"3,000 of [\d,]+ bytes. Try again later"):
        fetch(record)
    assert files(cache) == set()


def test_redirects_are_followed(record: WeightRecord, host: Host) -> None:
    moved = changed(record, url=f"{host.url}/moved/w.pth?download=1")
    host.drops = [1000]
    assert is_right(fetch(moved), host)
    assert [path for path, _ in host.seen] == [
        "/moved/w.pth?download=1",
        "/files/w.pth?download=1",
    ] * 2
    assert host.asked("Range")[-1] == "bytes=1000-"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sha256": "0" * 64}, "should be 0{64} and is [0-9a-f]{64}.*The download was deleted"),
        ({"sha256": "0" * 8}, "should be 0{8} and is [0-9a-f]{8}\\."),
        ({"size": 5000}, "bytes instead of 5,000: another file .* Nothing was kept"),
        ({"url": "file:///etc/passwd"}, "no address of the web"),
        ({"url": "ftp://127.0.0.1/w.pth"}, "no address of the web"),
    ],
)
def test_another_file_leaves_nothing(
    record: WeightRecord, cache: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        fetch(changed(record, **changes))
    assert files(cache) == set()


def test_another_architecture_leaves_nothing(record: WeightRecord, cache: Path) -> None:
    other = record.model_copy(update={"options": {"channels": [4, 16]}})
    with pytest.raises(InputError, match=r"blocks.1.0.weight is .* The download was deleted"):
        fetch(other)
    assert files(cache) == set()


def test_a_web_page_in_place_of_the_file_leaves_nothing(
    record: WeightRecord, host: Host, cache: Path
) -> None:
    host.content = b"<!DOCTYPE html><title>Sign in</title>"
    with pytest.raises(InputError, match="a web page, such as one that asks for a login"):
        fetch(changed(record, sha256=None, size=None))
    assert files(cache) == set()


@pytest.fixture
def full_disk() -> Iterator[Callable[[int], None]]:
    """Let no file grow beyond some bytes; the system then says the same as of a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_nothing(
    record: WeightRecord, cache: Path, full_disk: Callable[[int], None]
) -> None:
    full_disk(3000)
    with pytest.raises(InputError, match=r"No room to write .*w\.pth\.part"):
        fetch(record)
    assert files(cache) == set()


def test_no_room_for_the_converted_file_leaves_nothing(
    record: WeightRecord, host: Host, cache: Path, full_disk: Callable[[int], None]
) -> None:
    published = weights_folder() / "downloads" / record.name / "w.pth"
    published.parent.mkdir(parents=True)
    published.write_bytes(host.content)
    full_disk(1000)
    with pytest.raises(InputError, match=r"No room to write .*\.safetensors"):
        fetch(record)
    assert files(cache) == set()


@pytest.mark.parametrize("how", ["option", "environment"])
def test_offline_opens_no_socket(
    record: WeightRecord, cache: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    class NoSocketError(Exception):
        pass

    def refuse(*_: object, **__: object) -> None:
        raise NoSocketError

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    with pytest.raises(NoSocketError):
        fetch(record)
    if how == "environment":
        monkeypatch.setenv("BRAINTUNE_OFFLINE", "1")
    with pytest.raises(InputError, match="offline") as raised:
        fetch(record, offline=how == "option")
    assert str(file_of(record)) in str(raised.value)
    assert "braintune models convert sfcn.tiny DOWNLOADED_FILE" in str(raised.value)
    assert files(cache) == set()


def test_offline_weights_that_are_there_are_used(
    record: WeightRecord, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fetch(record)
    monkeypatch.setenv("BRAINTUNE_OFFLINE", "1")
    assert fetch(record) == path
    path.unlink()
    monkeypatch.setenv("BRAINTUNE_OFFLINE", "0")
    assert fetch(record) == path
    assert len(host.seen) == 2


@pytest.mark.parametrize(
    ("status", "gated", "message"),
    [
        (404, False, "answered with 404. The file is gone or has moved.*models convert sfcn.tiny"),
        (403, False, "answered with 403. If you have the file"),
        (401, True, r"accepted its licence \(CC-BY-NC-4.0\).*set HF_TOKEN"),
        (403, True, "accepted its licence"),
    ],
)
def test_refusals_are_explained(
    record: WeightRecord, host: Host, cache: Path, status: int, gated: bool, message: str
) -> None:
    host.statuses = [status]
    with pytest.raises(InputError, match=message):
        fetch(changed(record, gated=gated))
    assert host.asked("Authorization") == [None]
    assert files(cache) == set()


def test_a_busy_host_is_asked_again(record: WeightRecord, host: Host) -> None:
    host.statuses = [503, 429, 200]
    assert is_right(fetch(record), host)
    assert len(host.seen) == 3


def test_no_connection_is_explained(record: WeightRecord, host: Host, cache: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(InputError, match=f"no connection to 127.0.0.1:{port} .*refused"):
        fetch(changed(record, url=f"http://127.0.0.1:{port}/w.pth"))
    assert files(cache) == set()


@pytest.mark.parametrize(
    ("url", "gated", "shown"),
    [
        ("https://huggingface.co/lab/net/resolve/abc/w.pth", True, "Bearer secret"),
        ("https://huggingface.co/lab/net/resolve/abc/w.pth", False, None),
        ("http://huggingface.co/lab/net/resolve/abc/w.pth", True, None),
        ("https://huggingface.co.example.org/lab/net/resolve/abc/w.pth", True, None),
        ("https://example.org/w.pth?huggingface.co", True, None),
    ],
)
def test_the_token_is_shown_to_its_own_host_alone(
    record: WeightRecord,
    monkeypatch: pytest.MonkeyPatch,
    url: str,
    gated: bool,
    shown: str | None,
) -> None:
    requests: list[urllib.request.Request] = []

    def refuse(_: object, request: urllib.request.Request, timeout: float) -> None:
        requests.append(request)
        raise urllib.error.HTTPError(request.full_url, 403, "", Message(), None)

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", refuse)
    with pytest.raises(InputError) as raised:
        fetch(changed(record, url=url, gated=gated))
    assert [request.get_header("Authorization") for request in requests] == [shown]
    assert ("Accept it at https://huggingface.co/lab/net, make" in str(raised.value)) == bool(shown)


def test_two_processes_fetch_once(record: WeightRecord, host: Host, cache: Path) -> None:
    """Locks are of open files, so threads stand for processes here."""
    host.pause = 0.3
    with ThreadPoolExecutor(3) as pool:
        paths = list(pool.map(fetch, [record] * 3))
    assert set(paths) == {file_of(record)}
    assert is_right(paths[0], host)
    assert len(host.seen) == 1
    assert files(cache) == WHOLE


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "No place is known from which they could be fetched."),
        (Source(manual="Fill in the form at example.org."), "Fill in the form at example.org."),
    ],
)
def test_what_no_program_may_fetch_is_explained(
    record: WeightRecord, cache: Path, source: Source | None, message: str
) -> None:
    manual = record.model_copy(update={"source": source})
    for attempt in (fetch, demand_file):
        with pytest.raises(InputError, match=f"{message} Then give 'braintune models convert sf"):
            attempt(manual)
    assert files(cache) == set()
