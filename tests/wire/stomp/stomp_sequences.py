"""Generated sequences of STOMP operations, and all that can be observed of them: on a real Artemis and on the simulated one.

Both are spoken to by the same bare socket. What a real broker itself leaves open is not asked for: a connection is broken off
only while it has one subscription at most, since else it may strand what it holds (ART-4); the order between subscriptions
is not compared, only that within each.
"""

# ruff: noqa: ARG002 - all operations have one signature
import random
import time
from concurrent.futures import ThreadPoolExecutor

OPERATIONS = (
    *("send", "send", "send", "send", "subscribe", "subscribe", "ack", "ack", "nack", "unsubscribe"),
    *("transaction", "commit", "abort", "disconnect", "break", "forget", "delayed"),
)
LENGTH = 16
CONNECTIONS = 3
SLOTS = 2
WINDOWS = ("0", "1", "700", "10240", "-1")
ACKS = ("client-individual", "client-individual", "client", "auto")
DELAY_SECONDS = 4.0
"""Longer than a sequence takes, so that no step meets the end of a delay by chance."""


class Player:
    """Up to three connections with two subscriptions each, over two queues and a topic with a durable subscription."""

    def __init__(self, connect, name, pause):
        self._connect = connect
        self._pause = pause
        self.queues = [f"{name}.a", f"{name}.b"]
        self.topic = f"{name}.t"
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
            self._connections[number] = self._connect(client_id=self.client_id)
            self._held[number] = {}
            self._subscribed[number] = {}
            self._transactions[number] = None
        return self._connections[number]

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
            return draw.choice(self.queues), {"destination_type": "ANYCAST"}
        if kind == "topic":
            return self.topic, {"destination_type": "MULTICAST"}
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
        return connection.send(destination, body, persistent="true", **kind, **headers)

    def _delayed(self, draw, number, connection, what):
        if draw.random() < 0.6:
            return None
        if self._transactions[number] is not None:
            return None
        self._due = time.monotonic() + DELAY_SECONDS
        return self._send(draw, number, connection, what, AMQ_SCHEDULED_DELAY=str(int(DELAY_SECONDS * 1000)))

    def _subscribe(self, draw, number, connection, what):
        slot = f"s{draw.randrange(SLOTS)}"
        source = draw.choice(("a", "a", "b", "t", "d"))
        window, ack = draw.choice(WINDOWS), draw.choice(ACKS)
        if slot in self._subscribed[number]:
            return None
        what += [slot, source, window, ack]
        headers = {"consumer_window_size": window, "ack": ack}
        if source in "ab":
            destination, headers["subscription_type"] = f"{self.name}.{source}", "ANYCAST"
        else:
            destination, headers["subscription_type"] = self.topic, "MULTICAST"
            if source == "d":
                headers["durable_subscription_name"] = self.durable
                self._made = True
        self._subscribed[number][slot] = (source, ack)
        return connection.subscribe(destination, slot, **headers)

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
        return connection.ask("UNSUBSCRIBE", {"id": slots[0], "durable-subscription-name": self.durable})

    def _settle(self, draw, number, connection, what, command):
        held = self._held[number]
        if not held:
            return None
        key = draw.choice(sorted(held))
        slot, body = key
        frame = held.pop(key)
        if self._subscribed[number][slot][1] == "client":
            order = [one for one in held if one[0] == slot]
            for one in order:
                if held[one].serial < frame.serial:
                    del held[one]
        what += [slot, body]
        return connection.ask(command, {"id": frame.headers["ack"]})

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
        if len(self._subscribed[number]) > 1:
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
        last = self._connections[0] = self._connect(client_id=self.client_id)
        self._held[0], self._subscribed[0] = {}, {}
        for source in self.queues:
            last.subscribe(source, source[-1], subscription_type="ANYCAST", consumer_window_size="-1")
        if self._made:
            durable = {"durable_subscription_name": self.durable, "consumer_window_size": "-1"}
            last.subscribe(self.topic, "d", subscription_type="MULTICAST", **durable)
        self._look(["left"])
        last.ask("DISCONNECT", {})
        last.close()
        return self.seen


def play(connect, seed, *, pause):
    """All that was observed of the sequence ``seed``. ``pause``: seconds in which a broker says what it has to say."""
    draw = random.Random(seed)
    player = Player(connect, f"s{seed}x{time.time_ns() % 10**8:08}", pause)
    for _ in range(LENGTH):
        player.step(draw)
    return player.finish()


def compare(real, simulated, seed, *, pause=0.01, patience=0.06):
    """Both lists of observations, of the real broker first; played again with more patience where they differ."""
    found = [], [""]
    with ThreadPoolExecutor(2) as pool:
        for wait in (pause, patience, patience):
            playing = (
                pool.submit(play, real, seed, pause=wait),
                pool.submit(play, simulated, seed, pause=min(wait, 0.02)),
            )
            found = tuple(one.result() for one in playing)
            if found[0] == found[1]:
                break
    return found
