"""The simulated broker's AMQP front end beside a real RabbitMQ: the same requests and sequences, the same observations."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

WIRE = Path(__file__).parents[1] / "wire" / "amqp"
sys.path[:0] = [str(WIRE), str(Path(__file__).parent)]

import amqp_facts  # noqa: E402 - beside the tests of the front end
import amqp_requests  # noqa: E402
import compare_amqp  # noqa: E402 - beside this file

pytestmark = pytest.mark.live

SEQUENCES = 40
PAUSES = (0.1, 0.5, 2.0)
"""Seconds of silence after which the server has said all; a busy machine needs more."""


def test_the_recorded_answers_are_those_of_the_real_server(rabbitmq_server):
    rabbitmq_server.ensure_vhost("answers")
    found = asyncio.run(amqp_requests.answers(rabbitmq_server.uri + "answers"))
    told = {name: answer.replace("vhost 'answers'", "vhost '/'") for name, answer in found.items()}
    assert told == json.loads((WIRE / "answers_of_rabbitmq_3_10_8.json").read_text())


def test_direct_reply_to_is_as_the_simulation_has_it(rabbitmq_server):
    rabbitmq_server.ensure_vhost("answers")
    found = asyncio.run(amqp_requests.ask(rabbitmq_server.uri + "answers"))
    assert found == [(b"!", 2, ""), "NO_ROUTE", (b"!!", 2, "")]


@pytest.mark.parametrize("name", amqp_facts.FACTS)
def test_the_facts_are_as_the_simulation_has_them(rabbitmq_server, name):
    rabbitmq_server.ensure_vhost("answers")
    for pause in PAUSES:
        found = asyncio.run(amqp_facts.observe(rabbitmq_server.uri + "answers", name, pause))
        if found == amqp_facts.FACTS[name][2]:
            return
    assert found == amqp_facts.FACTS[name][2]


def test_generated_sequences_look_the_same(rabbitmq_server):
    rabbitmq_server.ensure_vhost(compare_amqp.VHOST)
    found = asyncio.run(compare_amqp.differences(rabbitmq_server.uri + compare_amqp.VHOST, range(SEQUENCES)))
    assert found == {}
