"""Generated sequences of STOMP operations, and all that can be observed of them: on a real broker and on the simulated one.

Both are spoken to by the same bare socket. What a real broker itself leaves open is not asked for: on Artemis a connection is
broken off only while it has one subscription at most, since else it may strand what it holds (ART-4); the order between
subscriptions is not compared, only that within each.
"""

# ruff: noqa: ARG002 - all operations have one signature
import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

OPERATIONS = (
    *("send", "send", "send", "send", "subscribe", "subscribe", "ack", "ack", "nack", "unsubscribe"),
    *("transaction", "commit", "abort", "disconnect", "break", "forget", "delayed"),
)
LENGTH = 16
CONNECTIONS = 3
SLOTS = 2
ACKS = ("client-individual", "client-individual", "client", "auto")
DELAY_SECONDS, DELAY_PAUSES = 4.0, 120
"""Longer than a sequence takes, which depends on its pauses, so that no step meets the end of a delay by chance."""


@dataclass(frozen=True, kw_only=True)
class Manners:
    """How a broker is spoken to. ``queue`` and ``topic``: how their destinations are made of a name; ``to_queue`` ...: headers.

    ``windows``: values of the header ``window``, ``None`` for none. ``durable``: the headers of a durable subscription named
    ``{}``; ``forget``: those of the UNSUBSCRIBE that ends it, ``{topic}`` being its topic; ``qualified``: its queue can be sent to. ``shares_client``: all
    connections have one client id. ``delays``: there are delayed messages. ``breaks``: with how many subscriptions a
    connection may be broken off. ``gives_back``: NACKs may say ``requeue:false``. ``transacts_acks``: ACKs may be in
    transactions. ``answers_late``: what is in a transaction is answered at its end. ``one_channel``: an ACK of a ``client``
    subscription is one for all of the connection. ``graves``: a queue of dead letters.
    """

    queue: str
    topic: str
    to_queue: dict = field(default_factory=dict)
    to_topic: dict = field(default_factory=dict)
    from_queue: dict = field(default_factory=dict)
    from_topic: dict = field(default_factory=dict)
    window: str
    windows: tuple
    widest: dict = field(default_factory=dict)
    durable: dict
    forget: dict
    qualified: bool = False
    shares_client: bool = True
    delays: bool = True
    breaks: int = SLOTS
    gives_back: bool = False
    transacts_acks: bool = True
    answers_late: bool = False
    one_channel: bool = False
    graves: str | None = None


MANNERS = {
    "artemis": Manners(
        queue="{}",
        topic="{}",
        to_queue={"destination_type": "ANYCAST"},
        to_topic={"destination_type": "MULTICAST"},
        from_queue={"subscription_type": "ANYCAST"},
        from_topic={"subscription_type": "MULTICAST"},
        window="consumer_window_size",
        windows=("0", "1", "700", "10240", "-1"),
        widest={"consumer_window_size": "-1"},
        durable={"durable_subscription_name": "{}"},
        forget={"durable-subscription-name": "{}"},
        qualified=True,
        breaks=1,
        transacts_acks=False,
    ),
    "activemq-classic": Manners(
        queue="/queue/{}",
        topic="/topic/{}",
        window="activemq.prefetchSize",
        windows=("1", "2", "3", None),
        durable={"activemq.subscriptionName": "{}"},
        forget={"activemq.subscriptionName": "{}"},
        shares_client=False,
        graves="/queue/ActiveMQ.DLQ",
    ),
    "rabbitmq-stomp": Manners(
        queue="/queue/{}",
        topic="/topic/{}",
        window="prefetch_count",
        windows=("1", "2", "3", None),
        durable={"durable": "true", "auto_delete": "false"},
        forget={"durable": "true", "destination": "{topic}"},
        delays=False,
        gives_back=True,
        answers_late=True,
        one_channel=True,
    ),
}


class Player:
    """Up to three connections with two subscriptions each, over two queues and a topic with a durable subscription."""

    def __init__(self, connect, name, pause, profile="artemis"):
        self._connect = connect
        self._manners = manners = MANNERS[profile]
        self._pause = pause
        self.queues = [manners.queue.format(f"{name}.{one}") for one in "ab"]
        self.topic = manners.topic.format(f"{name}.t")
        self.client_id = f"{name}.c"
        self.durable = f"{name}.d"
        self.name = name
        self.seen = []
        self._connections = {}
        self._held = {}
        self._subscribed = {}
        self._transactions = {}
        self._sent = 0
        self._made = False
        self._due = 0.0

    def connection(self, number):
        if number not in self._connections:
            self._connections[number] = self._connect(client_id=self._client_id(number))
            self._held[number] = {}
            self._subscribed[number] = {}
            self._transactions[number] = None
        return self._connections[number]

    def _client_id(self, number):
        return self.client_id if self._manners.shares_client else f"{self.client_id}{number}"

    def step(self, draw):
        operation, number = draw.choice(OPERATIONS), draw.randrange(CONNECTIONS)
        connection = self.connection(number)
        what = [operation, number]
        answer = getattr(self, "_" + operation)(draw, number, connection, what)
        if answer is not None:
            what.append(answer.command)
            if answer.command in ("ERROR", "EOF"):
                what.append(answer.headers.get("message", "")[:9])
                self._drop(number)
        self._look(what)

    # --- operations -------------------------------------------------------------------------------------------------

    def _target(self, draw):
        kind = draw.choice(("queue", "queue", "queue", "topic", "topic", "durable"))
        if kind == "queue":
            return draw.choice(self.queues), self._manners.to_queue
        if kind == "topic" or not self._manners.qualified:
            return self.topic, self._manners.to_topic
        return f"{self.topic}::{self.client_id}.{self.durable}", {}

    def _send(self, draw, number, connection, what, **headers):
        destination, kind = self._target(draw)
        if "::" in destination and not self._made:
            return None
        self._sent += 1
        size = draw.choice((5, 5, 400))
        transaction = self._transactions[number]
        if transaction is not None and draw.random() < 0.7:
            headers["transaction"] = transaction
        what += [destination.replace(self.name, ""), self._sent, sorted(headers)]
        body = f"{self._sent}".encode().ljust(size, b".")
        if "transaction" in headers and self._manners.answers_late:
            connection.write("SEND", {"destination": destination, "persistent": "true", **headers}, body)
            return None
        return connection.send(destination, body, persistent="true", **kind, **headers)

    def _delayed(self, draw, number, connection, what):
        if draw.random() < 0.6 or not self._manners.delays:
            return None
        if self._transactions[number] is not None:
            return None
        delay = DELAY_SECONDS + DELAY_PAUSES * self._pause
        self._due = time.monotonic() + delay
        return self._send(draw, number, connection, what, AMQ_SCHEDULED_DELAY=str(int(delay * 1000)))

    def _subscribe(self, draw, number, connection, what):
        slot = f"s{draw.randrange(SLOTS)}"
        source = draw.choice(("a", "a", "b", "t", "d"))
        manners = self._manners
        window, ack = draw.choice(manners.windows), draw.choice(ACKS)
        if slot in self._subscribed[number]:
            return None
        what += [slot, source, window, ack]
        headers = {"ack": ack}
        if window is not None:
            headers[manners.window] = window
        if source in "ab":
            destination = self.queues["ab".index(source)]
            headers |= manners.from_queue
        else:
            destination = self.topic
            headers |= manners.from_topic
            if source == "d":
                headers |= self._durably(manners.durable)
                self._made = True
        self._subscribed[number][slot] = (source, ack)
        return connection.subscribe(destination, slot, **headers)

    def _durably(self, headers):
        return {name: value.format(self.durable, topic=self.topic) for name, value in headers.items()}

    def _unsubscribe(self, draw, number, connection, what):
        if not self._subscribed[number]:
            return None
        slot = draw.choice(sorted(self._subscribed[number]))
        what.append(slot)
        del self._subscribed[number][slot]
        self._held[number] = {key: one for key, one in self._held[number].items() if key[0] != slot}
        return connection.ask("UNSUBSCRIBE", {"id": slot})

    def _forget(self, draw, number, connection, what):
        """End the durable subscription; an error while somebody has it, unless that is this one subscription alone."""
        slots = [slot for slot, (source, _) in self._subscribed[number].items() if source == "d"]
        if not slots or draw.random() < 0.5:
            return None
        what.append(slots[0])
        others = [
            slot
            for other, subscribed in self._subscribed.items()
            for slot, (source, _) in subscribed.items()
            if source == "d" and (other, slot) != (number, slots[0])
        ]
        if others:
            return None
        del self._subscribed[number][slots[0]]
        self._held[number] = {key: one for key, one in self._held[number].items() if key[0] != slots[0]}
        self._made = False
        if not self._manners.shares_client:  # it has to be left first
            connection.ask("UNSUBSCRIBE", {"id": slots[0]})
        return connection.ask("UNSUBSCRIBE", {"id": slots[0], **self._durably(self._manners.forget)})

    def _settle(self, draw, number, connection, what, command):
        held = self._held[number]
        if not held:
            return None
        key = draw.choice(sorted(held))
        slot, body = key
        frame = held.pop(key)
        if self._subscribed[number][slot][1] == "client":
            order = [one for one in held if one[0] == slot or self._manners.one_channel]
            for one in order:
                if held[one].serial < frame.serial:
                    del held[one]
        what += [slot, body]
        headers = {"id": frame.headers["ack"]}
        if self._manners.gives_back and command == "NACK" and draw.random() < 0.5:
            headers["requeue"] = "false"
        transaction = self._transactions[number]
        if transaction is not None and self._manners.transacts_acks and draw.random() < 0.5:
            headers["transaction"] = transaction
            if self._manners.answers_late:
                connection.write(command, headers)
                return None
        what.append(sorted(headers))
        return connection.ask(command, headers)

    def _ack(self, draw, number, connection, what):
        return self._settle(draw, number, connection, what, "ACK")

    def _nack(self, draw, number, connection, what):
        return self._settle(draw, number, connection, what, "NACK")

    def _transaction(self, draw, number, connection, what):
        if self._transactions[number] is not None:
            return None
        self._transactions[number] = f"tx{len(self.seen)}"
        return connection.ask("BEGIN", {"transaction": self._transactions[number]})

    def _commit(self, draw, number, connection, what, command="COMMIT"):
        transaction, self._transactions[number] = self._transactions[number], None
        if transaction is None:
            return None
        return connection.ask(command, {"transaction": transaction})

    def _abort(self, draw, number, connection, what):
        return self._commit(draw, number, connection, what, "ABORT")

    def _disconnect(self, draw, number, connection, what):
        connection.ask("DISCONNECT", {})
        self._drop(number)

    def _break(self, draw, number, connection, what):
        if len(self._subscribed[number]) > self._manners.breaks:
            what.append("not")
            return
        self._drop(number)
        time.sleep(10 * self._pause)

    def _drop(self, number):
        self._connections.pop(number).close()
        for state in (self._held, self._subscribed, self._transactions):
            del state[number]

    # --- observations -----------------------------------------------------------------------------------------------

    def _look(self, what, *, seconds=0.0):
        time.sleep(seconds)
        got = {}
        quiet = 0
        while quiet < 2:
            quiet += 1
            for number, connection in list(self._connections.items()):
                for frame in connection.messages_within(self._pause):
                    quiet = 0
                    self._note(number, frame, got)
        self.seen.append((what, got))

    def _note(self, number, frame, got):
        slot = frame.headers.get("subscription", frame.command)
        body = frame.body.decode().rstrip(".")
        got.setdefault(f"{number} {slot}", []).append(body + ("R" if frame.redelivered else ""))
        if "ack" in frame.headers:
            frame.serial = self._serial = getattr(self, "_serial", 0) + 1
            self._held[number][slot, body] = frame

    def finish(self):
        self._look(["wait"], seconds=max(0.0, self._due + 0.2 - time.monotonic()))
        for number in sorted(self._connections):
            self._connections[number].ask("DISCONNECT", {})
            self._drop(number)
            self._look(["end", number])  # Artemis answers DISCONNECT before what was held is back
        manners = self._manners
        for number in range(1 if manners.shares_client else CONNECTIONS):
            last = self._connections[number] = self._connect(client_id=self._client_id(number))
            self._held[number], self._subscribed[number], self._transactions[number] = {}, {}, None
            if self._made:
                for slot in ["d"] if manners.qualified else [f"s{slot}" for slot in range(SLOTS)][: self._durables]:
                    headers = {**self._durably(manners.durable), **manners.from_topic, **manners.widest}
                    last.subscribe(self.topic, slot, **headers)
        for source in self.queues:
            self._connections[0].subscribe(source, source[-1], **manners.from_queue, **manners.widest)
        self._look(["left"])
        if manners.graves is not None:
            self._connections[0].subscribe(manners.graves, "dead", ack="auto")
            self._look(["dead"])
        for number in list(self._connections):
            self._connections[number].ask("DISCONNECT", {})
            self._drop(number)
        return self.seen

    @property
    def _durables(self):
        """How many durable subscriptions there can be: by their id, or one a client id."""
        return SLOTS if self._manners.shares_client else 1


def play(connect, seed, *, pause, profile="artemis"):
    """All that was observed of the sequence ``seed``. ``pause``: seconds in which a broker says what it has to say."""
    draw = random.Random(seed)
    player = Player(connect, f"s{seed}x{time.time_ns() % 10**8:08}", pause, profile)
    for _ in range(LENGTH):
        player.step(draw)
    return player.finish()


def compare(real, simulated, seed, *, profile="artemis", pause=0.01, patience=0.06):
    """Both lists of observations, of the real broker first; played again with more patience where they differ."""
    found = [], [""]
    with ThreadPoolExecutor(2) as pool:
        for wait in (pause, patience, patience):
            playing = (
                pool.submit(play, real, seed, pause=wait, profile=profile),
                pool.submit(play, simulated, seed, pause=min(wait, 0.02), profile=profile),
            )
            found = tuple(one.result() for one in playing)
            if found[0] == found[1]:
                break
    return found
