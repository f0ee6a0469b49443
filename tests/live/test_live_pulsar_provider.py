"""The Pulsar provider as its users get it, where the contract suite does not go: restarts, tokens, TLS, key order."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import shutil
import subprocess
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from factflow_infra import create_queue_provider
from factflow_infra.errors import QueueAuthenticationError, QueueConnectionError, QueueError
from factflow_infra.queue.messages import ErrorHandling, MessageStatus, QueueMessage
from factflow_infra.queue.pulsar import PulsarQueueProvider

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.live, pytest.mark.asyncio]

PATIENCE = 90.0


async def test_a_restart_in_the_middle_of_work_loses_nothing(own_pulsar_server: Any) -> None:
    own_pulsar_server.start()
    settings = {"reconnect_base": 0.1, "reconnect_cap": 1.0, "publish_timeout": 10.0}
    producer = create_queue_provider(own_pulsar_server.uri, **settings)
    consumer = create_queue_provider(own_pulsar_server.uri, **settings)
    wanted = {str(number) for number in range(400)}
    handled: set[str] = set()
    rejected: set[str] = set()
    over, fifty = asyncio.Event(), asyncio.Event()

    def seen() -> None:
        if len(handled) >= 50:
            fifty.set()
        if handled | rejected == wanted:
            over.set()

    async def handle(message: QueueMessage) -> MessageStatus:
        await asyncio.sleep(0.002)
        if int(message.body) % 7 == 3:
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

    async with asyncio.timeout(PATIENCE):
        async with asyncio.TaskGroup() as group:
            group.create_task(produce())
            await fifty.wait()
            await asyncio.to_thread(own_pulsar_server.kill)
            await asyncio.to_thread(own_pulsar_server.start)
        await over.wait()
    assert rejected == {body for body in wanted if int(body) % 7 == 3}
    assert consumer.health().health_state == "healthy"
    await consumer.stop()
    await producer.stop()


async def test_key_shared_keeps_the_order_of_keys_across_providers(pulsar_server: Any) -> None:
    """Two processes' worth of providers, each with several handlers at once."""
    name = f"q-{uuid4().hex[:8]}"
    providers = [create_queue_provider(pulsar_server.uri, subscription_type="key_shared") for _ in range(3)]
    seen: dict[str, list[int]] = {}
    running: set[str] = set()
    together: list[str] = []
    over = asyncio.Event()

    async def handle(message: QueueMessage) -> None:
        key = message.ordering_key or ""
        if key in running:
            together.append(key)
        running.add(key)
        await asyncio.sleep(0.001)
        seen.setdefault(key, []).append(int(message.body))
        running.discard(key)
        if sum(map(len, seen.values())) == 300:
            over.set()

    for provider in providers[:2]:
        await provider.subscribe(name, handle, concurrency=8)
    for number in range(50):
        for key in "abcdef":
            await providers[2].publish(name, QueueMessage(b"%d" % number, ordering_key=key))
    async with asyncio.timeout(PATIENCE):
        await over.wait()
    assert together == []
    assert seen == {key: list(range(50)) for key in "abcdef"}
    for provider in providers:
        await provider.stop()


def web_token(secret: bytes, role: str) -> str:
    def part(content: bytes) -> bytes:
        return base64.urlsafe_b64encode(content).rstrip(b"=")

    text = part(json.dumps({"alg": "HS256"}).encode()) + b"." + part(json.dumps({"sub": role}).encode())
    return (text + b"." + part(hmac.new(secret, text, hashlib.sha256).digest())).decode()


async def test_tokens_and_their_secrecy(own_pulsar_server: Any, caplog: pytest.LogCaptureFixture) -> None:
    secret = b"0123456789abcdef0123456789abcdef"
    admin, nobody = web_token(secret, "admin"), web_token(secret, "nobody")
    forged = web_token(b"f" * 32, "admin")
    own_pulsar_server.token = admin
    own_pulsar_server.settings |= {
        "authenticationEnabled": "true",
        "authorizationEnabled": "true",
        "authenticationProviders": "org.apache.pulsar.broker.authentication.AuthenticationProviderToken",
        "superUserRoles": "admin",
        "tokenSecretKey": f"data:;base64,{base64.b64encode(secret).decode()}",
        "brokerClientAuthenticationPlugin": "org.apache.pulsar.client.impl.auth.AuthenticationToken",
        "brokerClientAuthenticationParameters": f"token:{admin}",
    }
    own_pulsar_server.start()
    uri = own_pulsar_server.uri.replace("://", f"://:{admin}@")
    async with create_queue_provider(uri) as provider:
        await provider.publish("x", QueueMessage(b"x"))
    texts = [repr(provider), str(vars(provider)), str(vars(provider._transport))]
    refusals = (
        (nobody, QueueAuthenticationError, "permission"),
        (forged, QueueConnectionError, "login was refused"),  # the client does not tell (PUL-27)
        (None, QueueConnectionError, "login was refused"),
    )
    for token, error, words in refusals:
        provider = create_queue_provider(own_pulsar_server.uri, password=token, connect_timeout=4.0)
        with pytest.raises(error, match=words) as raised:
            await provider.publish("x", QueueMessage(b"x"))
        texts += [str(raised.value), repr(raised.value), str(vars(provider))]
        await provider.stop()
    assert isinstance(provider, PulsarQueueProvider)
    for token in (admin, nobody, forged):
        assert token not in "\n".join([*texts, caplog.text])


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CA, and a certificate of it for ``localhost``."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on this machine")
    folder = tmp_path_factory.mktemp("certificates")
    (folder / "localhost.ext").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "rsa:2048", "-nodes", "-keyout")
    openssl("req", "-x509", *key, "ca.key", "-out", "ca.pem", "-subj", "/CN=test CA", "-days", "2")
    openssl("req", *key, "localhost.key", "-out", "localhost.csr", "-subj", "/CN=localhost")
    signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "localhost.ext")
    openssl("x509", "-req", "-in", "localhost.csr", *signing, "-out", "localhost.pem")
    return folder


async def test_tls(own_pulsar_server: Any, certificates: Path) -> None:
    own_pulsar_server.settings |= {
        "brokerServicePortTls": str(own_pulsar_server.tls_port),
        "tlsEnabled": "true",
        "tlsCertificateFilePath": f"{certificates}/localhost.pem",
        "tlsKeyFilePath": f"{certificates}/localhost.key",
        "tlsTrustCertsFilePath": f"{certificates}/ca.pem",
    }
    own_pulsar_server.start()
    uri = f"pulsar+ssl://localhost:{own_pulsar_server.tls_port}"
    for settings in ({"tls_ca_file": f"{certificates}/ca.pem"}, {"tls_verify": False}):
        async with create_queue_provider(uri, **settings) as provider:
            await provider.publish("secure", QueueMessage(b"x" * 300_000))
    provider = create_queue_provider(uri, connect_timeout=5.0)
    with pytest.raises(QueueConnectionError):
        await provider.publish("secure", QueueMessage(b"x"))
    await provider.stop()
