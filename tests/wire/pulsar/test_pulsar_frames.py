"""The codec: what is written is read back, sizes and checksums are checked, and bytes that are no frame are refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factflow_infra_testing.wire.pulsar.commands import CODEC, TYPES
from factflow_infra_testing.wire.pulsar.frames import (
    MAX_FRAME_SIZE,
    Cutter,
    crc32c,
    read_batch,
    read_content,
    write_batch,
    write_content,
    write_frame,
)
from factflow_infra_testing.wire.pulsar.protobuf import DecodeError

KINDS = {
    "int": st.integers(-(1 << 63), (1 << 63) - 1),
    "uint": st.integers(0, (1 << 64) - 1),
    "bool": st.booleans(),
    "string": st.text(),
    "bytes": st.binary(),
    "double": st.floats(allow_nan=False),
}


def messages(name):
    """Any message called ``name``, as a dict."""
    required, optional = {}, {}
    for field, _ in CODEC._messages[name].writing:
        values = KINDS[field.kind] if field.kind in KINDS else st.deferred(lambda kind=field.kind: messages(kind))
        if field.repeated:
            optional[field.name] = st.lists(values, min_size=1, max_size=3)
        else:
            (required if field.required else optional)[field.name] = values
    return st.fixed_dictionaries(required, optional=optional)


@given(st.sampled_from(sorted(TYPES)).flatmap(lambda name: st.tuples(st.just(name), messages(name))), st.binary())
def test_a_frame_is_read_as_it_was_written_however_it_is_cut(command, rest):
    name, fields = command
    data = write_frame(name, fields, rest)
    for size in (1, 3, len(data)):
        cutter = Cutter()
        read = [frame for at in range(0, len(data), size) for frame in cutter.feed(data[at : at + size])]
        assert read == [(name, fields, rest)]


def test_numbers_are_on_the_wire_as_protobuf_has_them():
    assert CODEC.encode("send", {"producer_id": 1, "sequence_id": 300, "num_messages": -1}).hex() == (
        "0801" + "10ac02" + "18ffffffffffffffffff01"
    )
    packed = bytes.fromhex("0801120408051006220203ff")  # repeated numbers may come packed
    with pytest.raises(DecodeError):
        CODEC.decode("message", packed)
    assert CODEC.decode("message", bytes.fromhex("08011204080510062202037f"))["ack_set"] == [3, 127]


def test_the_checksum_is_castagnolis():
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(b"\0" * 32) == 0x8A9136AA


METADATA = {"producer_name": "p", "sequence_id": 1, "publish_time": 2}


@given(st.binary(max_size=40), st.integers(0, 200), st.integers(1, 255))
def test_a_flipped_byte_is_noticed(payload, at, flip):
    raw = bytearray(write_content(METADATA, payload))
    intact = read_content(bytes(raw))
    assert intact.intact
    assert (intact.metadata, bytes(intact.payload)) == (METADATA, payload)
    at = 2 + at % (len(raw) - 2)
    raw[at] ^= flip
    assert not read_content(bytes(raw)).intact


@given(st.lists(st.tuples(st.text(max_size=5), st.binary(max_size=20)), min_size=1, max_size=5))
def test_a_batch_is_read_as_it_was_written(sent):
    batch = write_batch([({"properties": [{"key": key, "value": "v"}]}, data) for key, data in sent])
    read = read_batch(batch, len(sent))
    assert [(one["properties"][0]["key"], data) for one, data in read] == sent
    with pytest.raises(DecodeError):
        read_batch(batch, len(sent) + 1)


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff\xff",
        b"\0\0\0\3abc",
        (MAX_FRAME_SIZE + 1).to_bytes(4, "big"),
        b"\0\0\0\x08\0\0\0\xffabcd",  # a command longer than its frame
        b"\0\0\0\x06\0\0\0\x02\x08\x63",  # of no known type
        b"\0\0\0\x06\0\0\0\x02\x08\x02",  # connect, and no such field
        b"\0\0\0\x04\0\0\0\0",
    ],
)
def test_what_is_no_frame_is_refused(data):
    with pytest.raises(DecodeError):
        list(Cutter().feed(data))


def test_nesting_is_bounded():
    inner = b"\x0a\x00" * 20
    for _ in range(40):
        inner = b"\x32" + bytes((min(len(inner), 127),)) + inner[:127]
    with pytest.raises(DecodeError):
        CODEC.decode("subscribe", inner)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data):
    for name in ("BaseCommand", "MessageMetadata", "SingleMessageMetadata"):
        try:
            CODEC.decode(name, data)
        except DecodeError:
            continue
    with contextlib.suppress(DecodeError):
        read_content(data)


@pytest.mark.parametrize("count", [-1, 0, 1 << 31])
def test_a_batch_of_absurdly_many_messages_is_refused(count):
    with pytest.raises(DecodeError):
        read_content(write_content({**METADATA, "num_messages_in_batch": count}, b"xx"))
