"""What confirms a publish on the wire: AMQP's ``basic.ack``, STOMP's RECEIPT, Pulsar's ``SEND_RECEIPT``.

Each class watches one connection (``proxy.Watch``). It has a confirmation lost by having nothing passed on of what came
with it: the connection is cut there.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from pamqp import commands, frame
from stompman import ReceiptFrame, SendFrame
from stompman.serde import FrameParser

from factflow_infra_testing.wire.pulsar.commands import CODEC
from factflow_infra_testing.wire.pulsar.frames import write_frame

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .proxy import Losses

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
    def __init__(self, losses: Losses, port: int) -> None:
        del port
        self._losses = losses
        self._sent, self._answered = AmqpFrames(), AmqpFrames()
        self._published: dict[int, int] = {}
        self._doomed: dict[tuple[int, int], str] = {}
        """By channel and delivery tag."""

    def sent(self, data: bytes) -> None:
        for channel, method in self._sent.feed(data):
            if isinstance(method, commands.Confirm.Select):
                self._published[channel] = 0
            elif isinstance(method, commands.Basic.Publish) and channel in self._published:
                self._published[channel] += 1
                if self._losses.meet(method.routing_key):
                    self._doomed[channel, self._published[channel]] = method.routing_key

    def answered(self, data: bytes) -> bytes | None:
        lost = False
        for channel, method in self._answered.feed(data):
            if not isinstance(method, commands.Basic.Ack):
                continue
            for doomed, tag in [*self._doomed]:
                if doomed == channel and (
                    tag == method.delivery_tag or (method.multiple and tag < method.delivery_tag)
                ):
                    self._losses.due.remove(self._doomed.pop((doomed, tag)))
                    lost = True
        return None if lost else data


class StompConfirms:
    def __init__(self, losses: Losses, port: int) -> None:
        del port
        self._losses = losses
        self._sent, self._answered = FrameParser(), FrameParser()
        self._doomed: dict[str, str] = {}
        """By receipt."""

    def sent(self, data: bytes) -> None:
        for one in self._sent.parse_frames_from_chunk(data):
            if isinstance(one, SendFrame) and self._losses.meet(one.headers["destination"]):
                self._doomed[one.headers["receipt"]] = one.headers["destination"].removeprefix("/queue/")

    def answered(self, data: bytes) -> bytes | None:
        lost = False
        for one in self._answered.parse_frames_from_chunk(data):
            if isinstance(one, ReceiptFrame) and one.headers["receipt-id"] in self._doomed:
                self._losses.due.remove(self._doomed.pop(one.headers["receipt-id"]))
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

    def __init__(self, losses: Losses, port: int) -> None:
        self._losses = losses
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
                if self._losses.meet(name):
                    self._doomed[one["producer_id"], one["sequence_id"]] = name

    def answered(self, data: bytes) -> bytes | None:
        out, lost = b"", False
        for whole, command in self._answered.feed(data):
            if (found := command.get("lookup_response")) is not None:
                out += write_frame("lookup_response", {**found, "brokerServiceUrl": self._url})
                continue
            out += whole
            if (one := command.get("send_receipt")) is not None:
                doomed = self._doomed.pop((one["producer_id"], one["sequence_id"]), None)
                if doomed is not None:
                    self._losses.due.remove(doomed)
                    lost = True
        return None if lost else out
