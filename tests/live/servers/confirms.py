"""What confirms a publish on the wire: AMQP's ``basic.ack``, STOMP's RECEIPT, Pulsar's ``SEND_RECEIPT``. And what refuses one:
AMQP's ``basic.nack``, STOMP's ERROR.

Each class watches one connection (``proxy.Watch``). It has a confirmation lost by having nothing passed on of what came
with it: the connection is cut there.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from pamqp import commands, frame
from stompman import ErrorFrame, ReceiptFrame, SendFrame
from stompman.serde import FrameParser

from factflow_infra_testing.wire.pulsar.commands import CODEC
from factflow_infra_testing.wire.pulsar.frames import write_frame

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .proxy import Armed

_HEADER = b"AMQP"
_FRAME = struct.Struct(">BHI")
_METHOD = 1
_SIZES = struct.Struct(">II")


class AmqpFrames:
    """Cuts a stream into the methods in it; bodies and heart-beats are passed over."""

    def __init__(self) -> None:
        self._data = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, object]]:
        """The channel and the method of each frame that is whole."""
        self._data += data
        if self._data.startswith(_HEADER):
            self._data = self._data[8:]
        while len(self._data) >= _FRAME.size:
            kind, channel, size = _FRAME.unpack_from(self._data)
            end = _FRAME.size + size + 1
            if len(self._data) < end:
                return
            whole, self._data = self._data[:end], self._data[end:]
            if kind == _METHOD:
                yield channel, frame.unmarshal(whole)[2]


class AmqpConfirms:
    def __init__(self, armed: Armed, port: int) -> None:
        del port
        self._armed = armed
        self._sent, self._answered = AmqpFrames(), AmqpFrames()
        self._published: dict[int, int] = {}
        self._unanswered: dict[tuple[int, int], str] = {}
        """Where to, by channel and delivery tag: of the publishes that something is to befall."""

    def sent(self, data: bytes) -> None:
        for channel, method in self._sent.feed(data):
            if isinstance(method, commands.Confirm.Select):
                self._published[channel] = 0
            elif isinstance(method, commands.Basic.Publish) and channel in self._published:
                self._published[channel] += 1
                name = method.routing_key
                if name in self._armed.refused or self._armed.loses(name):
                    self._unanswered[channel, self._published[channel]] = name

    async def answered(self, data: bytes) -> bytes | None:
        lost = False
        for channel, method in self._answered.feed(data):
            if not isinstance(method, commands.Basic.Ack | commands.Basic.Nack):
                continue
            tag, multiple = method.delivery_tag, method.multiple
            for at in [
                at for at in self._unanswered if at[0] == channel and (at[1] == tag or (multiple and at[1] < tag))
            ]:
                name = self._unanswered.pop(at)
                if isinstance(method, commands.Basic.Nack):
                    await self._armed.was_refused(name)
                elif name in self._armed.due:
                    self._armed.due.remove(name)
                    lost = True
        return None if lost else data


class StompConfirms:
    def __init__(self, armed: Armed, port: int) -> None:
        del port
        self._armed = armed
        self._sent, self._answered = FrameParser(), FrameParser()
        self._unanswered: dict[str, str] = {}
        """Where to, by receipt: of the publishes that something is to befall."""

    def sent(self, data: bytes) -> None:
        for one in self._sent.parse_frames_from_chunk(data):
            if isinstance(one, SendFrame):
                name = one.headers["destination"].removeprefix("/queue/")
                if name in self._armed.refused or self._armed.loses(name):
                    self._unanswered[one.headers["receipt"]] = name

    async def answered(self, data: bytes) -> bytes | None:
        lost = False
        for one in self._answered.parse_frames_from_chunk(data):
            if not isinstance(one, ReceiptFrame | ErrorFrame):
                continue
            name = self._unanswered.pop(one.headers.get("receipt-id", ""), None)
            if name is not None and isinstance(one, ErrorFrame):
                await self._armed.was_refused(name)
            elif name in self._armed.due:
                self._armed.due.remove(name)
                lost = True
        return None if lost else data


class PulsarFrames:
    """Cuts a stream into frames."""

    def __init__(self) -> None:
        self._data = b""

    def feed(self, data: bytes) -> Iterator[tuple[bytes, dict[str, Any]]]:
        """Each frame that is whole, and its command."""
        self._data += data
        while len(self._data) >= 8:
            size, length = _SIZES.unpack_from(self._data)
            if len(self._data) < size + 4:
                return
            whole, self._data = self._data[: size + 4], self._data[size + 4 :]
            yield whole, CODEC.decode("BaseCommand", whole[8 : 8 + length])


class PulsarConfirms:
    """It also has every lookup answered with the proxy's own address: else the client goes past it."""

    def __init__(self, armed: Armed, port: int) -> None:
        self._armed = armed
        self._url = f"pulsar://127.0.0.1:{port}"
        self._sent, self._answered = PulsarFrames(), PulsarFrames()
        self._topics: dict[int, str] = {}
        """By producer."""
        self._doomed: dict[tuple[int, int], str] = {}
        """By producer and sequence number."""

    def sent(self, data: bytes) -> None:
        for _, command in self._sent.feed(data):
            if (made := command.get("producer")) is not None:
                self._topics[made["producer_id"]] = made["topic"].rpartition("/")[2].removeprefix("queue.")
            elif (one := command.get("send")) is not None:
                name = self._topics[one["producer_id"]]
                if self._armed.loses(name):
                    self._doomed[one["producer_id"], one["sequence_id"]] = name

    async def answered(self, data: bytes) -> bytes | None:
        out, lost = b"", False
        for whole, command in self._answered.feed(data):
            if (found := command.get("lookup_response")) is not None:
                out += write_frame("lookup_response", {**found, "brokerServiceUrl": self._url})
                continue
            out += whole
            if (one := command.get("send_receipt")) is not None:
                doomed = self._doomed.pop((one["producer_id"], one["sequence_id"]), None)
                if doomed is not None:
                    self._armed.due.remove(doomed)
                    lost = True
        return None if lost else out
