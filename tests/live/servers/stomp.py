"""A bare STOMP 1.2 connection: every frame as the broker wrote it, and any frame that a test wants to send.

Clients hide what this is for: receipts, flags, unacknowledged messages, connections that end without a goodbye.
"""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass, field

ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", ":": "\\c"}
UNESCAPES = {escaped: plain for plain, escaped in ESCAPES.items()}
ANSWER_SECONDS = 10.0
QUIET_SECONDS = 0.3
"""So long without a frame, and no more is expected: brokers on one machine answer within milliseconds."""


@dataclass
class Frame:
    """``EOF`` stands for the end of the connection."""

    command: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def redelivered(self) -> bool:
        return self.headers.get("redelivered") == "true"


class Stomp:
    """One connection. ``connected`` is the broker's answer, CONNECTED or ERROR. Headers with a dash are given by ``_``."""

    def __init__(self, port: int, user: str, password: str, **headers: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=ANSWER_SECONDS)
        self._buffer = b""
        self._receipts = 0
        self._held: list[Frame] = []
        self.last_bytes = 0.0
        sent = {"accept-version": "1.2", "host": "localhost", "login": user, "passcode": password, **dashed(headers)}
        # CONNECT alone is not escaped.
        text = "".join(f"{name}:{value}\n" for name, value in sent.items())
        self._socket.sendall(f"CONNECT\n{text}\n\0".encode())
        self.connected = self.receive(ANSWER_SECONDS)

    def write(self, command: str, headers: dict[str, str], body: bytes = b"") -> None:
        text = "".join(f"{escape(name)}:{escape(value)}\n" for name, value in headers.items())
        self._socket.sendall(f"{command}\n{text}\n".encode() + body + b"\0")

    def send_raw(self, data: bytes) -> None:
        """Write bytes as they are."""
        self._socket.sendall(data)

    def ask(self, command: str, headers: dict[str, str], body: bytes = b"") -> Frame:
        """The RECEIPT, the ERROR or the end that answers; messages that come before are kept for ``messages``."""
        self._receipts += 1
        receipt = f"r{self._receipts}"
        self.write(command, {**headers, "receipt": receipt}, body)
        while True:
            frame = self.receive(ANSWER_SECONDS)
            if frame.command in ("ERROR", "EOF") or frame.headers.get("receipt-id") == receipt:
                return frame
            self._held.append(frame)

    def send(self, destination: str, body: bytes, **headers: str) -> Frame:
        sent = {"destination": destination, "content-length": str(len(body)), **dashed(headers)}
        return self.ask("SEND", sent, body)

    def subscribe(self, destination: str, name: str = "s", **headers: str) -> Frame:
        sent = {"id": name, "destination": destination, "ack": "client-individual", **dashed(headers)}
        return self.ask("SUBSCRIBE", sent)

    def ack(self, frame: Frame) -> Frame:
        return self.ask("ACK", {"id": frame.headers["ack"]})

    def messages(self, count: int | None = None) -> list[Frame]:
        """``count`` messages, or what comes until it is quiet."""
        found, self._held = self._held, []
        while count is None or len(found) < count:
            frame = self.receive(QUIET_SECONDS if count is None else ANSWER_SECONDS)
            if frame.command != "MESSAGE":
                break
            found.append(frame)
        return found

    def messages_within(self, seconds: float) -> list[Frame]:
        """What comes until nothing has come for ``seconds``, an ERROR or the end included."""
        found, self._held = self._held, []
        while (frame := self.receive(seconds)).command != "NONE":
            found.append(frame)
            if frame.command == "EOF":
                break
        return found

    def receive(self, seconds: float) -> Frame:
        """The next frame; a ``Frame`` with the command ``NONE`` when none comes within ``seconds``."""
        end = time.monotonic() + seconds
        while True:
            if (frame := self._parsed()) is not None:
                return frame
            self._socket.settimeout(max(end - time.monotonic(), 0.001))
            try:
                data = self._socket.recv(65536)
            except TimeoutError:
                return Frame("NONE")
            except OSError:
                return Frame("EOF")
            if not data:
                return Frame("EOF")
            self.last_bytes = time.monotonic()
            self._buffer += data

    def disconnect(self) -> None:
        """Say goodbye, and wait until the broker has heard it."""
        self.ask("DISCONNECT", {})
        self.close()

    def close(self) -> None:
        """End without a goodbye, as a killed client does."""
        self._socket.close()

    def _parsed(self) -> Frame | None:
        self._buffer = self._buffer.lstrip(b"\n")
        head, end, rest = self._buffer.partition(b"\n\n")
        if not end:
            return None
        command, *lines = head.decode().split("\n")
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers.setdefault(unescape(name), unescape(value))
        if "content-length" in headers:
            length = int(headers["content-length"])
            if len(rest) <= length:
                return None
            body, self._buffer = rest[:length], rest[length + 1 :]
            return Frame(command, headers, body)
        body, end, left = rest.partition(b"\0")
        if not end:
            return None
        self._buffer = left
        return Frame(command, headers, body)


def dashed(headers: dict[str, str]) -> dict[str, str]:
    return {
        name if name.isupper() or name[0] == "_" else name.replace("_", "-"): value for name, value in headers.items()
    }


def escape(text: str) -> str:
    return "".join(ESCAPES.get(character, character) for character in text)


def unescape(text: str) -> str:
    plain, rest = "", text
    while rest:
        step = 2 if rest[0] == "\\" else 1
        plain += UNESCAPES.get(rest[:step], rest[:step])
        rest = rest[step:]
    return plain
