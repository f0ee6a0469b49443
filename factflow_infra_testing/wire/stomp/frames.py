"""STOMP frames, for a server: cutting a stream into them, strictly, and writing them. Versions 1.0 to 1.2.

What is no frame is an error, never skipped or guessed at. One incomplete frame is held at most, of a size that is known.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from factflow_infra_testing.wire.stomp.errors import MalformedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

MAX_HEAD_BYTES: Final = 512 * 1024
"""Of command and headers together."""
MAX_HEADERS: Final = 4096
MAX_BODY_BYTES: Final = 128 * 1024 * 1024
MOST_SHOWN: Final = 120
"""Characters of a client's mistake that an answer repeats."""

CONNECTING: Final = frozenset({"CONNECT", "STOMP"})
WITH_BODY: Final = frozenset({"SEND"})
COMMANDS: Final = CONNECTING | {
    *("SEND", "SUBSCRIBE", "UNSUBSCRIBE", "ACK", "NACK", "BEGIN", "COMMIT", "ABORT", "DISCONNECT")
}
SERVER_COMMANDS: Final = frozenset({"CONNECTED", "MESSAGE", "RECEIPT", "ERROR"})
_ALL_COMMANDS: Final = COMMANDS | SERVER_COMMANDS
_PREFIXES: Final = frozenset(command[:length] for command in _ALL_COMMANDS for length in range(len(command) + 1))
_LONGEST_COMMAND: Final = max(map(len, _ALL_COMMANDS))

ESCAPES: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "1.0": {},
        "1.1": {"\\": "\\\\", "\n": "\\n", ":": "\\c"},
        "1.2": {"\\": "\\\\", "\n": "\\n", ":": "\\c", "\r": "\\r"},
    }
)
_UNESCAPES: Final = {
    version: {escaped: plain for plain, escaped in table.items()} for version, table in ESCAPES.items()
}
_SEQUENCE: Final = re.compile(r"\\(.?)", re.DOTALL)
_HEAD_END: Final = re.compile(rb"\n\r?\n")
_LINE_ENDS: Final = re.compile(rb"(?:\r?\n)+")
_LENGTH: Final = re.compile(r"[0-9]{1,15}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Frame:
    """A client's frame. ``headers``: the first of each name, which is the one that counts."""

    command: str
    headers: Mapping[str, str]
    body: bytes = b""


class Cutter:
    """Cuts what arrives into frames. ``version`` is the one agreed on: it says how headers are escaped.

    ``drops_colons``: of a value those go that are not escaped. ``most_headers``: in a frame; ``longest_header``: in bytes.
    """

    def __init__(
        self, *, drops_colons: bool = True, most_headers: int = MAX_HEADERS, longest_header: int = MAX_HEAD_BYTES
    ) -> None:
        self.version = "1.2"
        self.drops_colons = drops_colons
        self.most_headers = most_headers
        self.longest_header = longest_header
        self._buffer = bytearray()
        self._seen = 0  # so far nothing was found in the buffer
        self._named = False  # whether the buffer begins with a command
        self._head: tuple[str, dict[str, str]] | None = None  # command and headers of the frame whose body is coming
        self._length: int | None = None

    @property
    def held(self) -> int:
        """Bytes that wait for the rest of their frame."""
        return len(self._buffer)

    @property
    def idle(self) -> bool:
        """Whether nothing of a frame has come."""
        return not self._buffer and self._head is None

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Each frame that is complete with ``data``. Raises ``MalformedError``; nothing more can be read then."""
        self._buffer += data
        while True:
            if self._head is None and not self._read_head():
                return
            frame = self._read_body()
            if frame is None:
                return
            yield frame

    def clear(self) -> None:
        """Drop what waits."""
        self._buffer.clear()

    def _read_head(self) -> bool:
        buffer = self._buffer
        if not self._named:
            # Line ends between frames are heart-beats.
            between = _LINE_ENDS.match(buffer)
            if between is not None:
                del buffer[: between.end()]
            self._named = self._check_command()
            if not self._named:
                return False
        match = _HEAD_END.search(buffer, max(0, self._seen - 2))
        end = len(buffer) if match is None else match.start()
        if buffer.find(b"\0", self._seen, end) >= 0:
            raise MalformedError("the end of a frame stands before the end of its headers", _shown(bytes(buffer)))
        if end > MAX_HEAD_BYTES:
            raise MalformedError(f"command and headers take more than {MAX_HEAD_BYTES} bytes")
        if match is None:
            self._seen = len(buffer)
            return False
        head = bytes(buffer[:end])
        del buffer[: match.end()]
        self._seen = 0
        self._head = self._parse(head)
        self._length = self._content_length(self._head[1])
        return True

    def _check_command(self) -> bool:
        """Whether the command is here as a whole."""
        line, end, _ = bytes(self._buffer[: _LONGEST_COMMAND + 2]).partition(b"\n")
        command = line.removesuffix(b"\r").decode("ascii", "replace")
        known = _ALL_COMMANDS if end else _PREFIXES
        if command not in known:
            raise MalformedError("AMQ339023 Invalid STOMP frame", f"no STOMP command: {_shown(line)}")
        return bool(end)

    def _parse(self, head: bytes) -> tuple[str, dict[str, str]]:
        if head.count(b"\n") > self.most_headers:
            raise MalformedError(f"a frame has more than {self.most_headers} headers")
        if len(head) > self.longest_header and max(map(len, head.split(b"\n"))) > self.longest_header:
            raise MalformedError(f"a header of more than {self.longest_header} bytes")
        command, *texts = [line.removesuffix("\r") for line in head.decode("utf-8", "replace").split("\n")]
        plain = command in CONNECTING
        headers: dict[str, str] = {}
        for line in texts:
            name, colon, value = line.partition(":")
            if not colon:
                raise MalformedError(f"a header without a colon: {_shown(line.encode())}")
            if not plain:
                if self.drops_colons and self.version != "1.0":
                    value = value.replace(":", "")  # a colon that is not escaped is dropped (ART-32)
                name, value = self._unescaped(name), self._unescaped(value)
            headers.setdefault(name, value)
        return command, headers

    def _unescaped(self, text: str) -> str:
        if "\\" not in text or self.version == "1.0":
            return text
        table = _UNESCAPES[self.version]

        def plain(match: re.Match[str]) -> str:
            try:
                return table[match[0]]
            except KeyError:
                raise MalformedError(f"AMQ339040 Undefined escape sequence {match[0]}") from None

        return _SEQUENCE.sub(plain, text)

    @staticmethod
    def _content_length(headers: Mapping[str, str]) -> int | None:
        text = headers.get("content-length")
        if text is None:
            return None
        if _LENGTH.fullmatch(text) is None:
            raise MalformedError(f"content-length must be a number of bytes, got {_shown(text.encode())}")
        length = int(text)
        if length > MAX_BODY_BYTES:
            raise MalformedError(f"a body of {length} bytes; at most {MAX_BODY_BYTES}")
        return length

    def _read_body(self) -> Frame | None:
        buffer, length = self._buffer, self._length
        assert self._head is not None
        command, headers = self._head
        if length is None:
            length = buffer.find(b"\0", self._seen)
            if length < 0:
                self._seen = len(buffer)
                if self._seen > MAX_BODY_BYTES:
                    raise MalformedError(f"a body of more than {MAX_BODY_BYTES} bytes")
                return None
        elif len(buffer) <= length:
            return None
        elif buffer[length]:
            raise MalformedError(f"no NUL where content-length {length} ends the body")
        body = bytes(buffer[:length])
        del buffer[: length + 1]
        self._head, self._length, self._seen, self._named = None, None, 0, False
        if body and command not in WITH_BODY:
            raise MalformedError(f"a {command} frame has no body")
        return Frame(command, headers, body)


def write(command: str, headers: Iterable[tuple[str, str]], body: bytes = b"", *, version: str = "1.2") -> bytes:
    """A server's frame. CONNECTED is not escaped."""
    escapes = ESCAPES["1.0" if command == "CONNECTED" else version]
    rows = [_row(name, value, escapes) for name, value in headers]
    return b"%b\n\n%b\0\n" % ("\n".join([command, *rows]).encode("utf-8", "replace"), body)


def _row(name: str, value: str, escapes: Mapping[str, str]) -> str:
    row = f"{name}:{value}"
    # Mostly there is nothing to escape; str.translate takes twenty times as long to find that out.
    if row.count(":") == 1 and "\\" not in row and "\n" not in row and "\r" not in row:
        return row
    for plain, escape in escapes.items():  # the backslash first
        name, value = name.replace(plain, escape), value.replace(plain, escape)
    return f"{name}:{value}"


def _shown(data: bytes) -> str:
    text = ascii(data[:MOST_SHOWN].decode("utf-8", "replace"))
    return text if len(data) <= MOST_SHOWN else text + "..."
