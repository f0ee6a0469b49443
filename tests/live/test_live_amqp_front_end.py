"""The simulated broker's AMQP front end beside a real RabbitMQ: the same requests and sequences, the same observations."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from factflow_infra_testing.wire.serving import serve

WIRE = Path(__file__).parents[1] / "wire" / "amqp"
sys.path.insert(0, str(WIRE))

import amqp_requests  # noqa: E402 - beside the tests of the front end
import amqp_sequences  # noqa: E402

pytestmark = pytest.mark.live

SEQUENCES = 60


def test_the_recorded_answers_are_those_of_the_real_server(rabbitmq_server):
    rabbitmq_server.ensure_vhost("answers")
    found = asyncio.run(amqp_requests.answers(rabbitmq_server.uri + "answers"))
    told = {name: answer.replace("vhost 'answers'", "vhost '/'") for name, answer in found.items()}
    assert told == json.loads((WIRE / "answers_of_rabbitmq_3_10_8.json").read_text())


def test_direct_reply_to_is_as_the_simulation_has_it(rabbitmq_server):
    rabbitmq_server.ensure_vhost("answers")
    found = asyncio.run(amqp_requests.ask(rabbitmq_server.uri + "answers"))
    assert found == [(b"!", 2, ""), "NO_ROUTE", (b"!!", 2, "")]


@pytest.mark.parametrize("kind", amqp_sequences.KINDS)
def test_generated_sequences_look_the_same(rabbitmq_server, kind):
    rabbitmq_server.ensure_vhost("sequences")

    async def main() -> list[int]:
        different = []
        async with await serve() as simulated:
            uri = f"amqp://guest:guest@127.0.0.1:{simulated.port}/"
            for seed in range(1000, 1000 + SEQUENCES):
                real_uri = rabbitmq_server.uri + "sequences"
                real, ours = await amqp_sequences.compare(real_uri, uri, kind, seed)
                if real != ours:  # a busy machine may have been too slow: ask again with ample time
                    real, ours = await amqp_sequences.compare(real_uri, uri, kind, seed, pause=0.3)
                if real != ours:
                    different.append(seed)
        return different

    assert asyncio.run(main()) == []
