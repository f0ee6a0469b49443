"""Frames are read and written as stompman's own codec does it, byte by byte: on any bytes, in any pieces."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stompman import AckFrame, ConnectFrame, FrameParser, HeartbeatFrame, MessageFrame, SendFrame, dump_frame

from factflow_infra.queue.artemis.frames import BEAT, FrameReader, dump

PIECES = st.sampled_from(
    [
        *(
            b"MESSAGE",
            b"RECEIPT",
            b"ERROR",
            b"CONNECTED",
            b"SEND",
            b"NONE",
            b"\n",
            b"\r\n",
            b"\n\n",
            b"\r",
            b"\0",
            b":",
        ),
        *(
            b"a:b\n",
            b"a:c\n",
            b"a:b:c\n",
            b"a\\c:\\\\\\n\n",
            b"\\",
            b"\\\\",
            b"\\n",
            b"\\x",
            b":\n",
            b"a:\xff\n",
            b"\xc3",
        ),
        *(
            b"content-length:3\n",
            b"Content-Length:0\n",
            b"content-length:-1\n",
            b"content-length: 2\n",
            b"abc",
            b"\0\0",
        ),
    ]
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.text("ab:\\\n\r", max_size=6)


def in_pieces(data, cuts):
    at = 0
    for cut in sorted(cuts):
        yield data[at:cut]
        at = cut
    yield data[at:]


def read_by(feed, pieces):
    return [frame for piece in pieces if piece for frame in feed(piece)]


@given(data=st.lists(PIECES | st.binary(max_size=3), max_size=40).map(b"".join), cuts=st.lists(st.integers(0, 120)))
def test_any_bytes_in_any_pieces_give_the_frames_that_stompman_gives(data, cuts):
    expected = read_by(FrameParser().parse_frames_from_chunk, [data])
    assert read_by(FrameReader().feed, in_pieces(data, cuts)) == expected


@given(headers=st.dictionaries(TEXTS, TEXTS, max_size=5), body=st.binary(max_size=20))
def test_frames_are_written_as_stompman_writes_them(headers, body):
    for frame in (SendFrame(headers=headers, body=body), AckFrame(headers=headers), ConnectFrame(headers=headers)):
        assert dump(frame) == dump_frame(frame)


def test_frames_one_behind_the_other_and_a_heart_beat_between_them():
    sent = [MessageFrame(headers={"content-length": "3", "n": str(n)}, body=b"\0x\0") for n in range(3)]
    data = BEAT.join(map(dump, sent))
    for size in (1, 7, len(data)):
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        assert read_by(FrameReader().feed, pieces) == [sent[0], HeartbeatFrame(), sent[1], HeartbeatFrame(), sent[2]]


@pytest.mark.parametrize("headers", [{}, {"content-length": str(1 << 24)}])
def test_a_large_body_does_not_take_the_loop_for_itself(headers):
    data = dump(MessageFrame(headers=headers, body=b"x" * (1 << 24)))
    reader = FrameReader()
    began = time.process_time()
    (frame,) = read_by(reader.feed, [data[at : at + 65536] for at in range(0, len(data), 65536)])
    assert len(frame.body) == 1 << 24
    assert time.process_time() - began < 0.5  # byte by byte it takes 1.5 s
