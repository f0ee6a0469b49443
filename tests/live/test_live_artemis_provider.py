"""The Artemis provider as its users get it, where the contract suite does not go: TLS, outages, failover, many messages."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from factflow_infra import create_queue_provider
from factflow_infra.errors import QueueConnectionError, QueueError, SettingsError
from factflow_infra.queue.artemis import ArtemisQueueProvider
from factflow_infra.queue.messages import ErrorHandling, HealthState, MessageStatus, QueueMessage

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.live, pytest.mark.asyncio]

PATIENCE = 90.0


@pytest.mark.parametrize("end", ["restart", "kill"])
async def test_an_outage_in_the_middle_of_work_loses_nothing(own_artemis_server: Any, end: str) -> None:
    own_artemis_server.start()
    settings = {"reconnect_base": 0.1, "reconnect_cap": 1.0}
    producer = create_queue_provider(own_artemis_server.uri, **settings)
    consumer = create_queue_provider(own_artemis_server.uri, **settings)
    wanted = {str(number) for number in range(600)}
    handled: set[str] = set()
    rejected: set[str] = set()
    over, fifty = asyncio.Event(), asyncio.Event()

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

    async def produce() -> None:
        for body in sorted(wanted, key=int):
            while True:
                try:
                    await producer.publish("work", QueueMessage(body.encode()))
                except QueueError as error:
                    if not error.retryable:
                        raise
                    await asyncio.sleep(0.1)
                else:
                    break

    def outage() -> None:
        if end == "kill":
            own_artemis_server.kill()
        else:
            own_artemis_server.stop()
        own_artemis_server.start()

    async with asyncio.timeout(PATIENCE):
        async with asyncio.TaskGroup() as group:
            group.create_task(produce())
            await fifty.wait()
            await asyncio.to_thread(outage)
        await over.wait()
    assert rejected == {body for body in wanted if int(body) % 7 == 3}
    await consumer.stop()
    await producer.stop()


async def test_what_many_lost_connections_leave_behind_a_restart_brings_back(own_artemis_server: Any) -> None:
    """A worker loses its connections 60 times under its handlers: hardly a message is missing (ART-4), and none in the end."""
    await asyncio.to_thread(own_artemis_server.start)
    settings = {"reconnect_base": 0.01, "reconnect_cap": 0.05}
    worker, producer = (create_queue_provider(own_artemis_server.uri, **settings) for _ in range(2))
    sent = [QueueMessage(b"x") for _ in range(1500)]
    seen: set[str] = set()

    async def handle(message: QueueMessage) -> None:
        await asyncio.sleep(0.001)
        seen.add(message.message_id)

    async def cut() -> None:
        for _ in range(60):
            await asyncio.sleep(0.03)
            for consumer in list(worker._transport._consumers):
                consumer.session.abort()

    await worker.subscribe("work", handle, concurrency=3)
    async with asyncio.TaskGroup() as group:
        group.create_task(cut())
        group.create_task(producer.publish_batch("work", sent))
    await quiet(seen)
    behind = len(sent) - len(seen)
    assert behind <= 6, "more than one for each ten lost connections"
    await asyncio.to_thread(own_artemis_server.restart)
    await quiet(seen)
    assert seen == {message.message_id for message in sent}
    await worker.stop()
    await producer.stop()


async def quiet(seen: set[str]) -> None:
    """Return once nothing new has come for some seconds."""
    count = -1
    while count != len(seen):
        count = len(seen)
        await asyncio.sleep(3)


async def test_failover_to_the_other_broker_and_back(own_artemis_server: Any, tmp_path: Path) -> None:
    """A list of brokers is tried in order: the second serves while the first is down, publishing and subscriptions alike."""
    first, second = own_artemis_server, type(own_artemis_server)(tmp_path / "second")
    await asyncio.to_thread(first.start)
    await asyncio.to_thread(second.start)
    try:
        uri = f"{first.uri},stomp://127.0.0.1:{second.port}"
        provider = create_queue_provider(uri, reconnect_base=0.1, reconnect_cap=0.5)
        got: asyncio.Queue[bytes] = asyncio.Queue()

        async def handle(message: QueueMessage) -> None:
            got.put_nowait(message.body)

        subscription = await provider.subscribe("work", handle)

        async def passes(body: bytes) -> None:
            async with asyncio.timeout(PATIENCE):
                while True:
                    try:
                        await provider.publish("work", QueueMessage(body))
                        break
                    except QueueError as error:
                        assert error.retryable  # noqa: PT017 - any other is a failure
                        await asyncio.sleep(0.1)
                while await got.get() != body:
                    pass

        await passes(b"on the first")
        await asyncio.to_thread(first.kill)
        await passes(b"on the second")
        assert provider.health().health_state is HealthState.HEALTHY
        await asyncio.to_thread(first.start)
        await asyncio.to_thread(second.kill)
        await passes(b"on the first again")
        assert subscription.status == "active"
        await provider.stop()
    finally:
        second.kill()


async def test_poison_does_not_stop_the_rest(artemis_server: Any, stomp: Any) -> None:
    """Frames that no provider sent, with what can be wrong in them: each is dead-lettered or handled, and none is lost."""
    bare = stomp(artemis_server)
    own = {"factflow-wire-timestamp": "2026-04-22T18:30:00.123456+00:00", "destination": "/queue/poisoned"}
    typed = {"destination-type": "ANYCAST", "persistent": "true"}
    for number, headers in enumerate(
        (
            {"factflow-wire-timestamp": "yesterday"},
            {"factflow-wire-headers": "{"},
            {"factflow-wire-attempts": "x"},
            {"plain": "ü"},
        )
    ):
        body = b"%d" % number
        given = {**own, **typed, **headers, "content-length": str(len(body))}
        assert bare.ask("SEND", given, body).command == "RECEIPT"
    assert bare.ask("SEND", {**typed, "destination": "/queue/poisoned"}, b"\xff text").command == "RECEIPT"
    provider = create_queue_provider(artemis_server.uri)
    got: dict[bytes, str | None] = {}
    all_came = asyncio.Event()

    async def take(message: QueueMessage) -> None:
        got[message.body] = message.headers.get("factflow-dead-letter-reason")
        if len(got) == 5:
            all_came.set()

    await provider.subscribe("poison-dlq", take)
    await provider.subscribe("poisoned", take, error_handling=ErrorHandling(dead_letter_queue="poison-dlq"))
    async with asyncio.timeout(PATIENCE):
        await all_came.wait()
    await provider.stop()
    undecodable = "undecodable"
    assert got == {b"0": undecodable, b"1": undecodable, b"2": undecodable, b"3": None, "\ufffd text".encode(): None}


async def test_secrets_stay_secret(artemis_server: Any, caplog: pytest.LogCaptureFixture) -> None:
    provider = create_queue_provider(artemis_server.uri.replace(artemis_server.quoted_password, "hush-hush"))
    with pytest.raises(QueueError) as raised:
        await provider.publish("x", QueueMessage(b"x"))
    await provider.stop()
    assert isinstance(provider, ArtemisQueueProvider)
    assert "hush-hush" not in f"{raised.value!r} {raised.value} {provider!r} {vars(provider)} {caplog.text}"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CA, and a certificate of it for ``localhost`` and one for a client; keystores for Java."""
    if shutil.which("openssl") is None or shutil.which("keytool") is None:
        pytest.skip("no openssl or no keytool on this machine")
    folder = tmp_path_factory.mktemp("certificates")
    (folder / "localhost.ext").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    (folder / "client.ext").write_text("extendedKeyUsage=clientAuth\n")

    def run(*arguments: str) -> None:
        subprocess.run(arguments, cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "rsa:2048", "-nodes", "-keyout")
    run("openssl", "req", "-x509", *key, "ca.key", "-out", "ca.pem", "-subj", "/CN=test CA", "-days", "2")
    for name in ("localhost", "client"):
        run("openssl", "req", *key, f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", f"{name}.ext")
        run("openssl", "x509", "-req", "-in", f"{name}.csr", *signing, "-out", f"{name}.pem")
    own = ("-inkey", "localhost.key", "-in", "localhost.pem", "-out", "server.p12", "-passout", "pass:changeit")
    run("openssl", "pkcs12", "-export", *own)
    trust = ("-keystore", "trust.p12", "-storepass", "changeit", "-storetype", "PKCS12")
    run("keytool", "-importcert", "-noprompt", "-alias", "ca", "-file", "ca.pem", *trust)
    return folder


async def test_tls_with_client_certificates(own_artemis_server: Any, certificates: Path) -> None:
    plain = own_artemis_server.port
    port = type(own_artemis_server)(own_artemis_server.folder).port
    options = f"keyStorePath={certificates}/server.p12;keyStorePassword=changeit;keyStoreType=PKCS12"
    options += f";trustStorePath={certificates}/trust.p12;trustStorePassword=changeit;trustStoreType=PKCS12"
    own_artemis_server.acceptors = (
        f'<acceptor name="tls">tcp://127.0.0.1:{port}?protocols=STOMP;useEpoll=false;sslEnabled=true;needClientAuth=true;'
        f"{options}</acceptor>"
    )
    await asyncio.to_thread(own_artemis_server.start)
    uri = f"stomp+ssl://{own_artemis_server.user}:{own_artemis_server.quoted_password}@localhost:{port}"
    own = {"tls_cert_file": f"{certificates}/client.pem", "tls_key_file": f"{certificates}/client.key"}
    for settings in ({"tls_ca_file": f"{certificates}/ca.pem"}, {"tls_verify": False}):
        async with create_queue_provider(uri, **own, **settings) as provider:
            got = asyncio.get_running_loop().create_future()

            async def handle(message: QueueMessage, got: asyncio.Future[bytes] = got) -> None:
                got.set_result(message.body)

            await provider.subscribe("secure", handle)
            await provider.publish("secure", QueueMessage(b"x" * 300_000))
            async with asyncio.timeout(PATIENCE):
                assert await got == b"x" * 300_000
    for settings, words in ((own, "CERTIFICATE_VERIFY_FAILED"), ({"tls_ca_file": f"{certificates}/ca.pem"}, None)):
        provider = create_queue_provider(uri, connect_timeout=5.0, **settings)
        with pytest.raises(QueueConnectionError, match=words):
            await provider.publish("secure", QueueMessage(b"x"))
        await provider.stop()
    provider = create_queue_provider(uri.replace(f":{port}", f":{plain}"), connect_timeout=5.0, tls_verify=False)
    with pytest.raises(QueueConnectionError):
        await provider.publish("secure", QueueMessage(b"x"))
    await provider.stop()
    with pytest.raises(SettingsError, match="absent"):
        await create_queue_provider(uri, tls_ca_file="/absent").publish("secure", QueueMessage(b"x"))
