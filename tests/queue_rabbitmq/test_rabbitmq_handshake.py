"""The reader before the client: what a refusing broker said, and headers that would end the connection."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from aiormq.connection import FrameReceiver
from aiormq.exceptions import InvalidFrameError
from pamqp import commands, frame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from factflow_infra.queue.rabbitmq.handshake import CarefulReader, Refusal, mended
from factflow_infra.queue.rabbitmq.wire import UNDECODABLE

pytestmark = pytest.mark.asyncio


def reader_of(*data: bytes, mend: bool = False) -> CarefulReader:
    stream = asyncio.StreamReader()
    stream.feed_data(b"".join(data))
    return CarefulReader(stream, mend_headers=mend)


async def frames(reader: CarefulReader, count: int) -> list[Any]:
    receiver = FrameReceiver(cast("asyncio.StreamReader", reader))
    return [(await receiver.get_frame())[2] for _ in range(count)]


OPEN_OK = frame.marshal(commands.Connection.OpenOk(), 0)
BAD_HEADER = (60).to_bytes(2, "big") + b"\0\0" + (5).to_bytes(8, "big") + (128).to_bytes(2, "big") + b"\x02\xff\xfe"


def header_frame(payload: bytes) -> bytes:
    return b"\x02\0\x01" + len(payload).to_bytes(4, "big") + payload + b"\xce"


async def test_keeps_what_the_broker_said() -> None:
    close = frame.marshal(commands.Connection.Close(530, "NOT_ALLOWED - vhost v not found", 10, 40), 0)
    reader = reader_of(close)
    assert isinstance((await frames(reader, 1))[0], commands.Connection.Close)
    assert reader.refusal == Refusal(530, "NOT_ALLOWED - vhost v not found")


async def test_steps_aside_after_the_handshake() -> None:
    heartbeat = b"\x08\0\0\0\0\0\0\xce"
    reader = reader_of(OPEN_OK, heartbeat, frame.marshal(commands.Basic.Ack(1), 1), header_frame(BAD_HEADER))
    await frames(reader, 3)
    assert reader.readexactly == reader._reader.readexactly
    with pytest.raises(InvalidFrameError):
        await frames(reader, 1)


async def test_mends_headers_on_request() -> None:
    good = ContentHeader(body_size=5, properties=commands.Basic.Properties(message_id="m", headers={"a": "b"}))
    body = frame.marshal(ContentBody(b"12345"), 1)
    reader = reader_of(OPEN_OK, header_frame(BAD_HEADER), body, frame.marshal(good, 1), body, mend=True)
    _, mended_header, first, good_header, second = await frames(reader, 5)
    assert mended_header.body_size == 5
    assert "not valid AMQP" in mended_header.properties.headers[UNDECODABLE]
    assert good_header.properties == good.properties
    assert (first.value, second.value) == (b"12345", b"12345")


@pytest.mark.parametrize(
    "properties",
    [
        b"\x80\x00\x05ab",  # a content type shorter than it says
        b"\x00\x40" + (2**63).to_bytes(8, "big"),  # a timestamp beyond all years
        b"\x20\x00\0\0\0\x04\x02a\xffS",  # a header name that is not UTF-8
        b"\x20\x00\0\0\0\x03\x01a?",  # a header of an unknown type
        b"\x20\x00\0\0\0\x63\x01a",  # a table longer than the frame
    ],
)
async def test_mends_what_is_no_amqp(properties: bytes) -> None:
    payload = b"\0\x3c\0\0" + (7).to_bytes(8, "big") + properties
    header = ContentHeader()
    header.unmarshal(mended(payload))
    assert header.body_size == 7
    assert UNDECODABLE in (header.properties.headers or {}) or mended(payload) == payload


def nested(levels: int) -> bytes:
    """Properties with one header, of lists in lists."""
    lists = b""
    for _ in range(levels):
        lists = b"A" + len(lists).to_bytes(4, "big") + lists
    return b"\x20\x00" + (len(lists) + 2).to_bytes(4, "big") + b"\x01a" + lists


@pytest.mark.parametrize("levels", [65, 400, 20_000])
async def test_mends_what_is_nested_too_deep(levels: int) -> None:
    """20,000 levels fit into one frame, and the client cannot read them, however often they are delivered."""
    header = ContentHeader()
    header.unmarshal(mended(b"\0\x3c\0\0" + (7).to_bytes(8, "big") + nested(levels)))
    assert header.body_size == 7
    assert "not valid AMQP" in (header.properties.headers or {})[UNDECODABLE]


async def test_leaves_what_is_nested_as_people_do() -> None:
    payload = b"\0\x3c\0\0" + (7).to_bytes(8, "big") + nested(60)
    assert mended(payload) == payload


async def test_a_broker_of_another_version() -> None:
    with pytest.raises(Exception, match="AMQP"):
        await frames(reader_of(b"AMQP\0\0\x09\x01"), 1)
