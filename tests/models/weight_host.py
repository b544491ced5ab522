"""A publisher's server on this computer, well-behaved unless told otherwise."""

import time
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler


@dataclass
class Host:
    """A publisher's server, well-behaved unless told otherwise.

    Attributes:
        content: The file.
        etag: By what the host knows its version; empty for none.
        drops: For each next request, after how many bytes the connection ends.
        ranges: Whether it sends pieces.
        statuses: What the next requests are answered with.
        pause: Seconds before each answer.
        seen: (path, headers) of all requests.
    """

    content: bytes = b""
    etag: str = '"v1"'
    drops: list[int] = field(default_factory=list)
    ranges: bool = True
    statuses: list[int] = field(default_factory=list)
    pause: float = 0
    url: str = ""
    seen: list[tuple[str, Message]] = field(default_factory=list)

    def asked(self, header: str) -> list[str | None]:
        return [headers.get(header) for _, headers in self.seen]


def answer(host: Host, to: BaseHTTPRequestHandler) -> None:
    host.seen.append((to.path, to.headers))
    time.sleep(host.pause)
    if to.path.startswith("/moved/"):
        to.send_response(302)
        to.send_header("Location", to.path.replace("/moved/", "/files/"))
        to.end_headers()
        return
    if host.statuses and (status := host.statuses.pop(0)) != 200:
        to.send_error(status)
        return
    asked = to.headers.get("Range")
    start = 0
    if asked and host.ranges and to.headers.get("If-Range") == host.etag:
        start = int(asked.removeprefix("bytes=").rstrip("-"))
        if start >= len(host.content):
            to.send_response(416)
            to.send_header("Content-Range", f"bytes */{len(host.content)}")
            to.end_headers()
            return
        to.send_response(206)
        last = len(host.content) - 1
        to.send_header("Content-Range", f"bytes {start}-{last}/{len(host.content)}")
    else:
        to.send_response(200)
    if host.etag:
        to.send_header("ETag", host.etag)
    to.send_header("Content-Length", str(len(host.content) - start))
    to.end_headers()
    stop = start + host.drops.pop(0) if host.drops else None
    to.wfile.write(host.content[start:stop])
