"""What the broker does for one connection: each command in, and what it answers. No bytes, no sockets, no clock.

The wire tier puts it behind a socket, the API tier behind a line in virtual time; both mean the same by a command.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from factflow_infra_testing.broker.errors import RefusedError
from factflow_infra_testing.broker.lines import Line
from factflow_infra_testing.broker.outcomes import Outcome
from factflow_infra_testing.wire.pulsar.consuming import NOBODY_ASKED, Consumers
from factflow_infra_testing.wire.pulsar.content import keys_of
from factflow_infra_testing.wire.pulsar.frames import MAX_MESSAGE_SIZE
from factflow_infra_testing.wire.pulsar.labels import subscription_label
from factflow_infra_testing.wire.pulsar.topics import PulsarError, id_of
from factflow_infra_testing.wire.pulsar.values import (
    LOOKUP_CONNECT,
    LOOKUP_FAILED,
    METADATA_FAILED,
    METADATA_SUCCESS,
    PROTOCOL_VERSION,
    ServerError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from factflow_infra_testing.broker.entries import Position
    from factflow_infra_testing.broker.server import SimulatedBroker
    from factflow_infra_testing.broker.sessions import Connection
    from factflow_infra_testing.wire.pulsar.frames import Content
    from factflow_infra_testing.wire.pulsar.frontend import PulsarFrontEnd
    from factflow_infra_testing.wire.pulsar.topics import Topic

SERVER_VERSION: Final = "Pulsar Server 4.0.4"


class Peer(Line, Protocol):
    """The client's end of a session, as the front end carries it."""

    server: SimulatedBroker
    connection: Connection
    url: str
    """Where the client has found the broker, which is where every topic is."""

    def send(self, name: str, fields: Mapping[str, Any], content: Content | None = None) -> None:
        """Send a command to the client."""
        ...

    def hang_up(self) -> None:
        """Close the connection, after what was sent."""
        ...


class ProtocolViolationError(Exception):
    """The client said what no client may say: the connection is closed."""


class PulsarProducer:
    """A producer on a topic."""

    def __init__(self, session: PulsarSession, number: int, name: str, topic: Topic, *, chosen: bool) -> None:
        self.session = session
        self.number = number
        self.name = name
        self.topic = topic
        self.chosen = chosen


class PulsarSession:
    """One connection of a client. ``take`` is called with each command, in the time to which the broker was advanced."""

    def __init__(self, front_end: PulsarFrontEnd, peer: Peer) -> None:
        self.front_end = front_end
        self.peer = peer
        self.unconfirmed = 0
        self._broker = peer.server.broker
        self._topics = front_end.topics
        self._producers: dict[int, PulsarProducer] = {}
        self.consumers = Consumers(peer, front_end.topics)
        self._handlers: dict[str, Callable[[Mapping[str, Any]], None]] = {
            "ping": self._ping,
            "pong": self._pong,
            "lookup": self._lookup,
            "partitioned_metadata": self._partitions,
            "get_topics_of_namespace": self._topics_of_namespace,
            "get_schema": self._no_schema,
            "get_or_create_schema": self._new_schema,
            "producer": self._new_producer,
            "close_producer": self._close_producer,
            **self.consumers.handlers,
        }
        self._connected = False

    # --- the connection ---------------------------------------------------------------------------------------------

    def take(self, name: str, fields: Mapping[str, Any], content: Content | None = None) -> None:
        """A command arrived. Raises ``ProtocolViolationError``."""
        if name == "connect":
            self._connect(fields)
            return
        if not self._connected:
            raise ProtocolViolationError(f"{name} before connect")
        if name == "send":
            self._send(fields, content)
            return
        handle = self._handlers.get(name)
        if handle is None:
            raise ProtocolViolationError(f"{name} is not for a broker")
        try:
            handle(fields)
        except PulsarError as error:
            self._refuse(fields, error.code, error.text)
        except RefusedError as error:
            self._refuse(fields, ServerError.NOT_ALLOWED, error.text)

    def _refuse(self, fields: Mapping[str, Any], code: ServerError, text: str) -> None:
        self.peer.send("error", {"request_id": fields["request_id"], "error": code, "message": text})

    def _connect(self, fields: Mapping[str, Any]) -> None:
        if self._connected:
            raise ProtocolViolationError("connected twice")
        token = self.front_end.token
        if token is not None:
            given = fields.get("auth_data", b"").decode("utf-8", "replace")
            if fields.get("auth_method_name") != "token" or given != token:
                refusal = {"error": ServerError.AUTHENTICATION, "message": "Unable to authenticate"}
                self.peer.send("error", {"request_id": NOBODY_ASKED, **refusal})
                self.peer.hang_up()
                return
        self._connected = True
        version = min(PROTOCOL_VERSION, fields.get("protocol_version", 0))
        answer = {"server_version": SERVER_VERSION, "protocol_version": version, "max_message_size": MAX_MESSAGE_SIZE}
        self.peer.send("connected", answer)

    def label_of(self, name: str, fields: Mapping[str, Any]) -> str | None:
        """What the queue or topic that a command is about is called; ``None`` where it is about none that is known."""
        if name == "send":
            producer = self._producers.get(fields["producer_id"])
            return None if producer is None else producer.topic.label
        if name == "subscribe":
            return subscription_label(fields["topic"], fields["subscription"])
        return self.consumers.label_of(fields["consumer_id"])

    def end(self) -> None:
        """The connection is gone: its producers and consumers are, and what those held goes back."""
        for producer in self._producers.values():
            self._forget(producer)
        self._producers.clear()
        self.consumers.end()
        self._broker.close_connection(self.peer.connection)

    def _ping(self, _: Mapping[str, Any]) -> None:
        self.peer.send("pong", {})

    def _pong(self, _: Mapping[str, Any]) -> None:
        """The front end has noted that something came."""

    # --- lookup -----------------------------------------------------------------------------------------------------

    def _lookup(self, fields: Mapping[str, Any]) -> None:
        answer: dict[str, Any] = {"request_id": fields["request_id"]}
        try:
            self._topics.check(fields["topic"])
        except PulsarError as error:
            answer |= {"response": LOOKUP_FAILED, "error": error.code, "message": error.text}
        else:
            url = {"brokerServiceUrl": self.peer.url, "proxy_through_service_url": False}
            answer |= {"response": LOOKUP_CONNECT, "authoritative": True, **url}
        self.peer.send("lookup_response", answer)

    def _partitions(self, fields: Mapping[str, Any]) -> None:
        answer: dict[str, Any] = {"request_id": fields["request_id"]}
        try:
            self._topics.check(fields["topic"])
        except PulsarError as error:
            answer |= {"response": METADATA_FAILED, "error": error.code, "message": error.text}
        else:
            answer |= {"response": METADATA_SUCCESS, "partitions": 0}
        self.peer.send("partitioned_metadata_response", answer)

    def _topics_of_namespace(self, fields: Mapping[str, Any]) -> None:
        found = {"topics": self._topics.names(fields["namespace"]), "filtered": False, "changed": True}
        self.peer.send("get_topics_of_namespace_response", {"request_id": fields["request_id"], **found})

    def _no_schema(self, fields: Mapping[str, Any]) -> None:
        refusal = {"error_code": ServerError.TOPIC_NOT_FOUND, "error_message": "Topic not found or no-schema"}
        self.peer.send("get_schema_response", {"request_id": fields["request_id"], **refusal})

    def _new_schema(self, fields: Mapping[str, Any]) -> None:
        refusal = {"error_code": ServerError.INCOMPATIBLE_SCHEMA, "error_message": "schemas are not simulated"}
        self.peer.send("get_or_create_schema_response", {"request_id": fields["request_id"], **refusal})

    # --- producers --------------------------------------------------------------------------------------------------

    def _new_producer(self, fields: Mapping[str, Any]) -> None:
        number = fields["producer_id"]
        producer = self._producers.get(number)
        if producer is None:
            if fields.get("producer_access_mode", 0):
                raise PulsarError(ServerError.NOT_ALLOWED, "exclusive producers are not simulated")
            topic = self._topics.topic(fields["topic"])
            name = fields.get("producer_name") or self._topics.new_producer_name()
            chosen = bool(fields.get("user_provided_producer_name", True))
            other = topic.producers.get(name)
            if other is not None and (other.chosen or chosen):
                text = f"Producer with name '{name}' is already connected to topic"
                raise PulsarError(ServerError.PRODUCER_BUSY, text)
            producer = PulsarProducer(self, number, name, topic, chosen=chosen)
            self._producers[number] = topic.producers[name] = producer
        # Deduplication is off, as it is by default on a real broker: it does not know what a producer of that name has sent.
        answer = {"producer_name": producer.name, "last_sequence_id": -1, "producer_ready": True}
        self.peer.send("producer_success", {"request_id": fields["request_id"], **answer, "schema_version": b""})

    def _close_producer(self, fields: Mapping[str, Any]) -> None:
        producer = self._producers.pop(fields["producer_id"], None)
        if producer is not None:
            self._forget(producer)
        self.peer.send("success", {"request_id": fields["request_id"]})

    def _forget(self, producer: PulsarProducer) -> None:
        if producer.topic.producers.get(producer.name) is producer:
            del producer.topic.producers[producer.name]

    def _send(self, fields: Mapping[str, Any], content: Content | None) -> None:
        producer = self._producers.get(fields["producer_id"])
        if producer is None:
            return  # as a real broker: what comes before its producer is there is not answered
        if content is None:
            raise ProtocolViolationError("a send without a message")
        answer = {"producer_id": producer.number, "sequence_id": fields["sequence_id"]}
        if not content.intact:
            refusal = {"error": ServerError.CHECKSUM, "message": "Checksum failed on the broker"}
            self.peer.send("send_error", {**answer, **refusal})
            return
        topic = producer.topic
        position: list[Position] = []

        def apply() -> Outcome:
            due = content.metadata.get("deliver_at_time")
            message, outcome = topic.publish(
                content,
                client=self.peer.client,
                laboratory=not self.peer.exposed,
                due=None if due is None else self.front_end.broker_time(due / 1000),
            )
            position.append(message.position)
            return outcome

        def confirm(outcome: Outcome) -> None:
            self.unconfirmed -= 1
            if self._producers.get(producer.number) is not producer or self.peer.cut:
                return
            if outcome is Outcome.REFUSED:
                # The one refusal that ends at the application: after any other the client library connects and sends anew.
                refusal = {"error": ServerError.CHECKSUM, "message": "Checksum failed on the broker"}
                self.peer.send("send_error", {**answer, **refusal})
            else:
                highest = fields.get("highest_sequence_id", 0)
                receipt = {"message_id": id_of(position[0]), "highest_sequence_id": highest}
                self.peer.send("send_receipt", {**answer, **receipt})

        self.unconfirmed += 1
        label = topic.label
        self.peer.server.meet_publish(self.peer, label, first_key(content), apply, confirm)


def first_key(content: Content) -> str:
    """The id of the first message in ``content``, by which faults and events call it."""
    return keys_of(content)[0]
