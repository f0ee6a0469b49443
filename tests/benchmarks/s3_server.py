"""A small S3 server for measurements: ``python tests/benchmarks/s3_server.py [MIB]`` prints its port and serves until it is ended.

One process, plain asyncio, everything in memory: PUT, GET with a range, HEAD, DELETE and uploads in parts, by path
(``/bucket/key``). It checks neither signatures nor conditions: what it is for is to cost less than any client of it, so that a
comparison of clients does not measure the server. A large body is kept as the pieces it came in, and never copied; whole pieces
that begin alike are kept once, so that 64 clients can put the same 256 MiB of noise. ``MIB``: each connection gets that many MiB a
second at most, as S3 limits them.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import socket
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PIECE = 1 << 20
_DATE = formatdate(usegmt=True)
_RANGE = re.compile(r"bytes=([0-9]+)-([0-9]*)")


@dataclass(slots=True)
class Stored:
    """An object: its content in pieces, and the headers that come back with it."""

    pieces: list[bytearray]
    size: int
    etag: str
    headers: dict[str, str]


@dataclass(slots=True)
class Upload:
    headers: dict[str, str]
    parts: dict[int, Stored] = field(default_factory=dict)


LIMIT = float(sys.argv[1]) * (1 << 20) if __name__ == "__main__" and len(sys.argv) > 1 else 0.0
OBJECTS: dict[str, Stored] = {}
PIECES: dict[bytes, bytearray] = {}
"""Whole pieces by their first bytes, which tell noise apart."""
UPLOADS: dict[str, Upload] = {}


class Connection(asyncio.BufferedProtocol):
    """One client: requests one after the other, each body straight into memory of its own."""

    def __init__(self) -> None:
        self._room = memoryview(bytearray(1 << 16))
        self._received = bytearray()
        self._headers: dict[str, str] = {}
        self._request = ("", "")
        self._pieces: list[bytearray] = []
        self._target: memoryview | None = None
        self._missing = 0
        self._paused = False
        self._waiting: list[memoryview] = []
        """What of an answer's body is still to be sent, the last first."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def get_buffer(self, _hint: int) -> memoryview:
        return self._room if self._target is None else self._target

    def buffer_updated(self, count: int) -> None:
        if self._target is None:
            self._received += self._room[:count]
            self._parse()
            return
        self._target, self._missing = self._target[count:], self._missing - count
        self._go_on()

    def _parse(self) -> None:
        while self._target is None and (end := self._received.find(b"\r\n\r\n")) >= 0:
            first, *lines = bytes(self._received[:end]).decode("latin-1").split("\r\n")
            rest = bytes(self._received[end + 4 :])
            self._received.clear()
            method, target, _ = first.split(" ")
            self._request = (method, target)
            self._headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            self._missing = int(self._headers.get("content-length", "0"))
            if self._headers.get("expect"):
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._pieces = []
            body, self._received = rest[: self._missing], bytearray(rest[self._missing :])
            self._go_on()
            if body:  # less than a piece, as it came with the head
                assert self._target is not None
                self._target[: len(body)] = body
                self._target, self._missing = self._target[len(body) :], self._missing - len(body)
                self._go_on()

    def _go_on(self) -> None:
        if self._missing and not self._target:
            piece = bytearray(min(self._missing, _PIECE))
            self._pieces.append(piece)
            self._target = memoryview(piece)
        elif not self._missing:
            self._target = None
            self._serve()

    def _serve(self) -> None:
        method, target = self._request
        url = urlsplit(target)
        query = parse_qs(url.query, keep_blank_values=True)
        handler: Callable[[str, dict[str, list[str]]], None] = getattr(self, f"_{method.lower()}")
        handler(url.path, query)

    def _kept(self) -> Stored:
        self._pieces = [
            PIECES.setdefault(bytes(piece[:64]), piece) if len(piece) == _PIECE else piece for piece in self._pieces
        ]
        size = sum(map(len, self._pieces))
        # A name of the version: a digest of it all would make the server the slowest of the run.
        etag = hashlib.md5(b"".join(piece[:64] for piece in self._pieces) + b"%d" % size).hexdigest()
        headers = {n: v for n, v in self._headers.items() if n.startswith("x-amz-meta-") or n == "content-type"}
        return Stored(self._pieces, size, etag, headers)

    def _put(self, path: str, query: dict[str, list[str]]) -> None:
        kept = self._kept()
        if "uploadId" in query:
            UPLOADS[query["uploadId"][0]].parts[int(query["partNumber"][0])] = kept
        else:
            OBJECTS[path] = kept
        self._answer(200, {"etag": f'"{kept.etag}"'})

    def _post(self, path: str, query: dict[str, list[str]]) -> None:
        if "uploads" in query:
            name = f"upload-{len(UPLOADS)}"
            UPLOADS[name] = Upload(self._kept().headers)
            self._answer_xml(
                f"<InitiateMultipartUploadResult><UploadId>{name}</UploadId></InitiateMultipartUploadResult>"
            )
            return
        upload = UPLOADS[query["uploadId"][0]]
        parts = [upload.parts[number] for number in sorted(upload.parts)]
        pieces = [piece for part in parts for piece in part.pieces]
        OBJECTS[path] = Stored(
            pieces, sum(part.size for part in parts), f"{parts[0].etag}-{len(parts)}", upload.headers
        )
        upload.parts = {}
        self._answer_xml(
            f'<CompleteMultipartUploadResult><ETag>"{OBJECTS[path].etag}"</ETag></CompleteMultipartUploadResult>'
        )

    def _delete(self, path: str, _query: dict[str, list[str]]) -> None:
        OBJECTS.pop(path, None)
        self._answer(204, {})

    def _found(self, path: str) -> Stored | None:
        found = OBJECTS.get(path)
        if found is None:
            self._answer(404, {})
        return found

    def _get(self, path: str, _query: dict[str, list[str]]) -> None:
        found = self._found(path)
        if found is None:
            return
        wanted = _RANGE.fullmatch(self._headers.get("range", ""))
        if wanted is None:
            self._answer(200, self._told(found), found.size)
            self._send([memoryview(piece) for piece in found.pieces])
            return
        start, end = int(wanted[1]), min(int(wanted[2] or found.size - 1) + 1, found.size)
        self._answer(206, {**self._told(found), "content-range": f"bytes {start}-{end - 1}/{found.size}"}, end - start)
        position, pieces = 0, list[memoryview]()
        for piece in found.pieces:
            if position < end and position + len(piece) > start:
                pieces.append(memoryview(piece)[max(start - position, 0) : end - position])
            position += len(piece)
        self._send(pieces)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        while self._waiting and not self._paused and not self._transport.is_closing():
            piece = self._waiting.pop()
            self._transport.write(piece)
            if LIMIT:
                self._paused = True
                asyncio.get_running_loop().call_later(len(piece) / LIMIT, self.resume_writing)

    def _send(self, pieces: list[memoryview]) -> None:
        self._waiting = pieces[::-1]
        self.resume_writing()

    def _head(self, path: str, _query: dict[str, list[str]]) -> None:
        found = self._found(path)
        if found is not None:
            self._answer(200, self._told(found), found.size)

    def _told(self, found: Stored) -> dict[str, str]:
        return {**found.headers, "etag": f'"{found.etag}"', "last-modified": _DATE, "accept-ranges": "bytes"}

    def _answer_xml(self, text: str) -> None:
        self._answer(200, {"content-type": "application/xml"}, len(text))
        self._transport.write(text.encode())

    def _answer(self, status: int, headers: dict[str, str], size: int = 0) -> None:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._transport.write(
            f"HTTP/1.1 {status} X\r\ndate: {_DATE}\r\ncontent-length: {size}\r\n{lines}\r\n".encode("latin-1")
        )


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def running(*arguments: str) -> Iterator[str]:
    """The endpoint of a server of its own process."""
    process = subprocess.Popen([sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.terminate()
        process.wait(10)


if __name__ == "__main__":
    asyncio.run(serve())
