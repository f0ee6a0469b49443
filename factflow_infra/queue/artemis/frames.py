"""stompman's frames, read and written by the line and the whole body where its own codec goes byte by byte.

What comes out is the same, its leniency included (the tests compare both, on any bytes). Only the speed differs: several
times for small frames, hundreds of times for large bodies, in whose time nothing else would run.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final, cast

from stompman import ConnectFrame, HeartbeatFrame
from stompman.serde import (
    COMMANDS_TO_FRAMES,
    FRAMES_TO_COMMANDS,
    FRAMES_WITH_BODY,
    dump_header,
    make_frame_from_parts,
    parse_header,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stompman import AnyClientFrame, AnyServerFrame

BEAT: Final = b"\n"


class FrameReader:
    """Cuts what arrives into frames: ``stompman.FrameParser``."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._seen = 0
        """So much of the buffer was looked at, and holds no end of what it begins with."""
        self._begin()

    def _begin(self) -> None:
        self._command: bytes | None = None
        self._headers: dict[str, str] = {}
        self._length: int | None = None
        self._in_body = False

    def feed(self, chunk: bytes) -> Iterator[AnyServerFrame]:
        """Each frame, heart-beats included, that is complete with ``chunk``."""
        self._buffer += chunk
        at = 0  # what is before was read
        try:
            while True:
                end = self._body_end(at) if self._in_body else self._line_end(at)
                if end < 0:
                    return
                start, at, self._seen = at, end + 1, 0
                if self._in_body:
                    yield self._frame(
                        bytes(self._buffer[start : end if self._length is None else start + self._length])
                    )
                elif self._buffer[end]:
                    line = bytes(self._buffer[start:end])
                    if line or self._command is not None:
                        self._take_line(line.removesuffix(b"\r"))
                    else:
                        yield HeartbeatFrame()
                else:
                    self._begin()  # a NUL in the head
        finally:
            del self._buffer[:at]

    def _line_end(self, at: int) -> int:
        """Where the newline, or the NUL before it, is that ends what begins at ``at``; -1: not here yet."""
        newline = self._buffer.find(b"\n", at + self._seen)
        nul = self._buffer.find(b"\0", at + self._seen, newline if newline >= 0 else len(self._buffer))
        end = nul if nul >= 0 else newline
        if end < 0:
            self._seen = len(self._buffer) - at
        return end

    def _body_end(self, at: int) -> int:
        """Where the NUL is that ends the body that begins at ``at``; -1: not here yet."""
        if self._length is not None and self._length < 0:
            return -1  # no body is as long
        end = self._buffer.find(b"\0", at + max(self._seen, self._length or 0))
        if end < 0:
            self._seen = len(self._buffer) - at
        return end

    def _take_line(self, line: bytes) -> None:
        if self._command is None:
            if line in COMMANDS_TO_FRAMES:
                self._command = line
        elif not line:
            self._in_body = True
        elif (header := _header(line)) is not None:
            name, value = header
            if name not in self._headers:
                self._headers[name] = value
                if name.lower() == "content-length":
                    with suppress(ValueError):
                        self._length = int(value)

    def _frame(self, body: bytes) -> AnyServerFrame:
        assert self._command is not None
        frame = make_frame_from_parts(command=self._command, headers=self._headers, body=body)
        self._begin()
        return cast("AnyServerFrame", frame)


def _header(line: bytes) -> tuple[str, str] | None:
    if line.count(b":") != 1 or b"\\" in line:
        return parse_header(bytearray(line))
    try:
        name, _, value = line.decode().partition(":")
    except UnicodeDecodeError:
        return None
    return name, value


def dump(frame: AnyClientFrame) -> bytes:
    """``frame`` as bytes: ``stompman.dump_frame``."""
    escapes = not isinstance(frame, ConnectFrame)
    head = [FRAMES_TO_COMMANDS[type(frame)]]
    for name, value in sorted(cast("dict[str, str]", frame.headers).items()):
        row = f"{name}:{value}"
        if escapes and (row.count(":") > 1 or "\\" in row or "\n" in row or "\r" in row):
            head.append(dump_header(name, value).removesuffix(b"\n"))
        else:
            head.append(row.encode())
    body = frame.body if isinstance(frame, FRAMES_WITH_BODY) else b""
    return b"%b\n\n%b\0" % (b"\n".join(head), body)
