"""``ArtemisQueueProvider`` against bare stompman doing the same work, on one real Artemis: messages a second, and ratios.

    python tests/benchmarks/artemis.py [--uri stomp://user:password@127.0.0.1:61613] [--rounds 7]

Without ``--uri`` a throw-away Artemis is started. The work: publish persistent messages of 256 bytes, each with its receipt,
100 in flight; consume them with the same window, one ack each. How rounds are compared is in
``comparing.compare``.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from datetime import UTC, datetime
from functools import partial
from uuid import uuid4

import stompman
from comparing import BODY, PREFETCH, Countdown, Rate, compare, in_flight, running_server, server_module

from factflow_infra import create_queue_provider
from factflow_infra.queue.artemis.windows import window_for
from factflow_infra.queue.messages import QueueMessage
from factflow_infra.queue.settings import QueueSettings


async def bare(uri: str, messages: int) -> tuple[Rate, Rate]:
    """What one writes on stompman for the same promises: receipts, persistence, manual acks."""
    settings = QueueSettings(uri=uri)
    (endpoint,) = settings.endpoints
    password = settings.password.get_secret_value() if settings.password is not None else ""
    server = stompman.ConnectionParameters(endpoint.host, endpoint.port, settings.username or "", password)
    name = f"/queue/bench-bare-{uuid4().hex[:8]}"
    async with stompman.Client([server], max_concurrent_handlers=None) as client:

        async def publish() -> None:
            headers = {
                "destination-type": "ANYCAST",
                "persistent": "true",
                "message": uuid4().hex,
                "execution": "1",
                "sent": datetime.now(UTC).isoformat(),
            }
            await client.send(BODY, name, content_type="application/json", headers=headers, receipt_timeout=30)

        published = await in_flight(messages, publish)
        countdown = Countdown(messages - 1)

        async def handle(frame: stompman.AckableMessageFrame) -> None:
            await frame.ack()
            countdown.one()

        window = {"subscription-type": "ANYCAST", "consumer-window-size": str(window_for(PREFETCH, 1, name).bytes_)}
        subscription = await client.subscribe_with_manual_ack(name, handle, headers=window)
        consumed = await countdown.rate()
        await subscription.unsubscribe()
    return published, consumed


async def ours(uri: str, messages: int) -> tuple[Rate, Rate]:
    name = f"bench-ours-{uuid4().hex[:8]}"
    async with create_queue_provider(uri) as provider:

        async def publish() -> None:
            await provider.publish(
                name, QueueMessage(BODY, headers={"execution": "1"}, content_type="application/json")
            )

        published = await in_flight(messages, publish)
        countdown = Countdown(messages - 1)

        async def handle(message: QueueMessage) -> None:
            del message
            countdown.one()

        await provider.subscribe(name, handle, prefetch=PREFETCH, concurrency=10)
        consumed = await countdown.rate()
    return published, consumed


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--uri")
    parser.add_argument("--messages", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with running_server(options.uri, lambda folder: server_module("artemis").Artemis(folder)) as uri:
        runs = {"bare": partial(bare, uri), "ours": partial(ours, uri)}
        good = asyncio.run(compare("ANYCAST queue", runs, options.messages, options.rounds))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
