"""The RabbitMQ provider as its users get it, where the contract suite does not go: TLS, outages, many messages."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from factflow_infra import create_queue_provider
from factflow_infra.errors import QueueConnectionError, QueueError, SettingsError
from factflow_infra.queue.messages import ErrorHandling, MessageStatus, QueueMessage
from factflow_infra.queue.rabbitmq import RabbitMqQueueProvider

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.live, pytest.mark.asyncio]

PATIENCE = 60.0


@pytest.mark.parametrize("queue_type", ["quorum", "classic"])
async def test_a_restart_in_the_middle_of_work_loses_nothing(own_rabbitmq_server: Any, queue_type: str) -> None:
    own_rabbitmq_server.start()
    settings = {"queue_type": queue_type, "reconnect_base": 0.1, "reconnect_cap": 1.0}
    producer = create_queue_provider(own_rabbitmq_server.uri, **settings)
    consumer = create_queue_provider(own_rabbitmq_server.uri, **settings)
    wanted = {str(number) for number in range(600)}
    handled: set[str] = set()
    rejected: set[str] = set()
    over = asyncio.Event()
    fifty = asyncio.Event()

    def seen() -> None:
        if len(handled) >= 50:
            fifty.set()
        if handled | rejected == wanted:
            over.set()

    async def handle(message: QueueMessage) -> MessageStatus:
        number = int(message.body)
        await asyncio.sleep(0.002)
        if number % 7 == 3:
            return MessageStatus.RETRY
        handled.add(message.body.decode())
        seen()
        return MessageStatus.ACK

    async def dead(message: QueueMessage) -> None:
        rejected.add(message.body.decode())
        seen()

    handling = ErrorHandling(max_retries=2, retry_delay_seconds=0.1, dead_letter_queue="dead")
    await consumer.subscribe("work", handle, concurrency=5, error_handling=handling)
    await consumer.subscribe("dead", dead)

    async def publish(body: str) -> None:
        while True:
            try:
                await producer.publish("work", QueueMessage(body.encode()))
            except QueueError as error:
                if not error.retryable:
                    raise
                await asyncio.sleep(0.1)
            else:
                return

    async def produce() -> None:
        for body in sorted(wanted, key=int):
            await publish(body)

    async with asyncio.timeout(PATIENCE):
        async with asyncio.TaskGroup() as group:
            group.create_task(produce())
            await fifty.wait()
            await asyncio.to_thread(own_rabbitmq_server.restart)
        await over.wait()
    assert rejected == {body for body in wanted if int(body) % 7 == 3}
    await consumer.stop()
    await producer.stop()


def nested(levels: int) -> bytes:
    lists = b""
    for _ in range(levels):
        lists = b"A" + len(lists).to_bytes(4, "big") + lists
    return (0x2000).to_bytes(2, "big") + (len(lists) + 2).to_bytes(4, "big") + b"\x01a" + lists


@pytest.mark.parametrize(
    "properties",
    [
        pytest.param((128).to_bytes(2, "big") + b"\x01\xff", id="a message id that is not UTF-8"),
        pytest.param(nested(20_000), id="a header of lists in lists"),
    ],
)
async def test_a_poison_header_does_not_stop_the_rest(rabbitmq_server: Any, properties: bytes) -> None:
    """What the client library cannot even read ends in the dead-letter queue, and the others are handled."""
    import aio_pika

    name, dead = f"q-{uuid4().hex[:8]}", f"d-{uuid4().hex[:8]}"
    provider = create_queue_provider(rabbitmq_server.uri, reconnect_base=0.05, reconnect_cap=0.2)
    await provider.publish(name, QueueMessage(b"before"))
    connection = await aio_pika.connect(rabbitmq_server.uri)
    async with connection:
        channel = await (await connection.channel()).get_underlay_channel()

        class RawProperties(aio_pika.abc.aiormq.spec.Basic.Properties):
            def marshal(self) -> bytes:
                return properties

        await channel.basic_publish(b"poison", routing_key=name, properties=RawProperties(message_id="x"))
    await provider.publish(name, QueueMessage(b"after"))
    got: asyncio.Queue[bytes] = asyncio.Queue()
    letters: asyncio.Queue[QueueMessage] = asyncio.Queue()

    async def handle(message: QueueMessage) -> None:
        got.put_nowait(message.body)

    async def bury(message: QueueMessage) -> None:
        letters.put_nowait(message)

    await provider.subscribe(dead, bury)
    await provider.subscribe(name, handle, error_handling=ErrorHandling(dead_letter_queue=dead))
    async with asyncio.timeout(PATIENCE):
        seen: set[bytes] = set()
        while seen != {b"before", b"after"}:  # the first may come twice: the poison costs its connection
            seen.add(await got.get())
        letter = await letters.get()
    assert letter.body == b"poison"
    assert letter.headers["factflow-dead-letter-reason"] == "undecodable"
    await provider.stop()


async def test_secrets_stay_secret(rabbitmq_server: Any, caplog: pytest.LogCaptureFixture) -> None:
    uri = rabbitmq_server.uri.replace("guest:guest", "guest:hush-hush")
    provider = create_queue_provider(uri)
    with pytest.raises(QueueError) as raised:
        await provider.publish("x", QueueMessage(b"x"))
    await provider.stop()
    assert isinstance(provider, RabbitMqQueueProvider)
    assert "hush-hush" not in f"{raised.value!r} {raised.value} {provider!r} {vars(provider)} {caplog.text}"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CA, and a certificate of it for ``localhost`` and one for a client."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on this machine")
    folder = tmp_path_factory.mktemp("certificates")
    (folder / "localhost.ext").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    (folder / "client.ext").write_text("extendedKeyUsage=clientAuth\n")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "rsa:2048", "-nodes", "-keyout")
    openssl("req", "-x509", *key, "ca.key", "-out", "ca.pem", "-subj", "/CN=test CA", "-days", "2")
    for name in ("localhost", "client"):
        openssl("req", *key, f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", f"{name}.ext")
        openssl("x509", "-req", "-in", f"{name}.csr", *signing, "-out", f"{name}.pem")
        (folder / f"{name}.key").chmod(0o644)
    return folder


async def test_tls_with_client_certificates(own_rabbitmq_server: Any, certificates: Path) -> None:
    port = own_rabbitmq_server.tls_port
    own_rabbitmq_server.configure(
        f"listeners.ssl.1 = 127.0.0.1:{port}",
        f"ssl_options.cacertfile = {certificates}/ca.pem",
        f"ssl_options.certfile = {certificates}/localhost.pem",
        f"ssl_options.keyfile = {certificates}/localhost.key",
        "ssl_options.verify = verify_peer",
        "ssl_options.fail_if_no_peer_cert = true",
    )
    own_rabbitmq_server.start()
    uri = f"amqps://guest:guest@localhost:{port}"
    own = {"tls_cert_file": f"{certificates}/client.pem", "tls_key_file": f"{certificates}/client.key"}
    for settings in ({"tls_ca_file": f"{certificates}/ca.pem"}, {"tls_verify": False}):
        async with create_queue_provider(uri, **own, **settings) as provider:
            await provider.publish("secure", QueueMessage(b"x" * 300_000))
    for settings, words in ((own, "CERTIFICATE_VERIFY_FAILED"), ({"tls_ca_file": f"{certificates}/ca.pem"}, None)):
        provider = create_queue_provider(uri, connect_timeout=5.0, **settings)
        with pytest.raises(QueueConnectionError, match=words):
            await provider.publish("secure", QueueMessage(b"x"))
        await provider.stop()
    with pytest.raises(SettingsError, match="absent"):
        await create_queue_provider(uri, tls_ca_file="/absent").publish("secure", QueueMessage(b"x"))
