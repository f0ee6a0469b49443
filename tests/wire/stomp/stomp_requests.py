"""Single requests to a STOMP broker, most of them wrong in some way, and what it answers: raw frames over a bare socket."""

import re
import socket
import time

QUIET_SECONDS = 0.25


def frame(command, *headers, body=b""):
    return b"\n".join([command.encode(), *(line.encode() for line in headers), b"", b""]) + body + b"\0"


def connect(*headers, version="1.2"):
    return ("CONNECT", f"accept-version:{version}", "host:localhost", "login:{user}", "passcode:{password}", *headers)


QUEUE = ("destination:{q}", "destination-type:ANYCAST")
FROM_QUEUE = ("destination:{q}", "subscription-type:ANYCAST")
SEND = ("SEND", *QUEUE, "receipt:s")
SUBSCRIBE = ("SUBSCRIBE", "id:a", *FROM_QUEUE, "ack:client-individual", "receipt:u")
DURABLE = ("SUBSCRIBE", "id:a", "destination:{q}", "durable-subscription-name:d")

REQUESTS = {
    # The first frame of each of these takes the place of CONNECT.
    "connect 1.2": [connect()],
    "connect stomp": [("STOMP", *connect()[1:])],
    "connect 1.1 and 1.2": [connect(version="1.1,1.2")],
    "connect 1.0": [connect(version="1.0")],
    "connect 1.1": [connect(version="1.1")],
    "connect without a version": [("CONNECT", "login:{user}", "passcode:{password}")],
    "connect 2.0": [connect(version="2.0")],
    "connect without a host": [("CONNECT", "accept-version:1.2", "login:{user}", "passcode:{password}")],
    "connect 1.1 without a host": [("CONNECT", "accept-version:1.1", "login:{user}", "passcode:{password}")],
    "connect with a receipt": [connect("receipt:c")],
    "connect with a wrong password": [
        ("CONNECT", "accept-version:1.2", "host:localhost", "login:{user}", "passcode:x")
    ],
    "connect without a login": [("CONNECT", "accept-version:1.2", "host:localhost")],
    "connect with bad heart-beats": [connect("heart-beat:x,y")],
    "connect with one heart-beat": [connect("heart-beat:5")],
    "connect with negative heart-beats": [connect("heart-beat:-1,0")],
    "connect with heart-beats": [connect("heart-beat:1000,500")],
    "send first": [SEND],
    "connect twice": [connect(), connect()],
    "an unknown command first": [("FOO", "a:b")],
    "garbage first": [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"],
    # From here on a session is open.
    "disconnect": ["", ("DISCONNECT", "receipt:d")],
    "disconnect without a receipt": ["", ("DISCONNECT",)],
    "unknown command": ["", ("FOO", "receipt:x")],
    "lower case command": ["", ("send", *QUEUE, "receipt:x")],
    "a server's command": ["", ("MESSAGE", "receipt:x")],
    "send": ["", SEND],
    "send without destination": ["", ("SEND", "receipt:x")],
    "send with an empty destination": ["", ("SEND", "destination:", "receipt:x")],
    "send with a wrong content-length": ["", ("SEND", *QUEUE, "content-length:x", "receipt:x")],
    "send with a negative content-length": ["", ("SEND", *QUEUE, "content-length:-1", "receipt:x")],
    "send with a short content-length": ["", frame("SEND", *QUEUE, "content-length:2", "receipt:x", body=b"hello")],
    "send with a wrong type": ["", ("SEND", "destination:{q}", "destination-type:QUEUE", "receipt:x")],
    "send with a lower case type": ["", ("SEND", "destination:{q}", "destination-type:anycast", "receipt:x")],
    "send with a wrong delay": ["", ("SEND", *QUEUE, "AMQ_SCHEDULED_DELAY:soon", "receipt:x")],
    "send with a negative delay": ["", ("SEND", *QUEUE, "AMQ_SCHEDULED_DELAY:-5", "receipt:x"), SUBSCRIBE],
    "send with a wrong time": ["", ("SEND", *QUEUE, "AMQ_SCHEDULED_TIME:soon", "receipt:x")],
    "send with wrong expiry": ["", ("SEND", *QUEUE, "expires:soon", "receipt:x")],
    "send with wrong priority": ["", ("SEND", *QUEUE, "priority:high", "receipt:x")],
    "send with priority": ["", ("SEND", *QUEUE, "priority:9", "receipt:x"), SUBSCRIBE],
    "send with persistent maybe": ["", ("SEND", *QUEUE, "persistent:maybe", "receipt:x"), SUBSCRIBE],
    "send persistent": ["", ("SEND", *QUEUE, "persistent:true", "correlation-id:c", "reply-to:{q}r"), SUBSCRIBE],
    "send in an unknown transaction": ["", ("SEND", *QUEUE, "transaction:t", "receipt:x")],
    "send with repeated headers": ["", ("SEND", *QUEUE, "h:first", "h:second", "receipt:x"), SUBSCRIBE],
    "send with escapes": ["", ("SEND", *QUEUE, "a\\cb:c\\nd\\\\e\\rf", "receipt:x"), SUBSCRIBE],
    "send with an undefined escape": ["", ("SEND", *QUEUE, "h:a\\tb", "receipt:x")],
    "send with a trailing backslash": ["", ("SEND", *QUEUE, "h:a\\", "receipt:x")],
    "send with a colon in a value": ["", ("SEND", *QUEUE, "h:a:b", "receipt:x"), SUBSCRIBE],
    "send with a header without colon": ["", ("SEND", *QUEUE, "nonsense", "receipt:x")],
    "send with an empty header name": ["", ("SEND", *QUEUE, ":value", "receipt:x"), SUBSCRIBE],
    "send with line ends of windows": [
        "",
        b"SEND\r\ndestination:{q}\r\ndestination-type:ANYCAST\r\nreceipt:x\r\n\r\nhi\0",
        SUBSCRIBE,
    ],
    "send with a body as text": ["", frame("SEND", *QUEUE, "receipt:x", body="é".encode()), SUBSCRIBE],
    "send with a body of bytes": [
        "",
        frame("SEND", *QUEUE, "content-length:3", "receipt:x", body=b"\0\xff\n"),
        SUBSCRIBE,
    ],
    "send with a header that is not utf-8": [
        "",
        b"SEND\ndestination:{q}\ndestination-type:ANYCAST\nh:\xff\xfe\nreceipt:x\n\n\0",
        SUBSCRIBE,
    ],
    "new lines between frames": ["", b"\n\n\n", SEND, b"\n\n", SUBSCRIBE],
    "send to a topic": ["", ("SEND", "destination:{q}", "receipt:x")],
    "subscribe": ["", SUBSCRIBE],
    "subscribe without an id": ["", ("SUBSCRIBE", *FROM_QUEUE, "receipt:x")],
    "subscribe without a destination": ["", ("SUBSCRIBE", "id:a", "receipt:x")],
    "subscribe twice with one id": ["", SUBSCRIBE, ("SUBSCRIBE", "id:a", *FROM_QUEUE, "receipt:x")],
    "subscribe with a wrong ack": ["", ("SUBSCRIBE", "id:a", *FROM_QUEUE, "ack:never", "receipt:x"), SEND],
    "subscribe with a wrong type": [
        "",
        ("SUBSCRIBE", "id:a", "destination:{q}", "subscription-type:QUEUE", "receipt:x"),
    ],
    "subscribe with a wrong window": ["", (*SUBSCRIBE, "consumer-window-size:wide")],
    "subscribe with a selector": [
        "",
        (*SUBSCRIBE, "selector:h = 'x'"),
        ("SEND", *QUEUE, "h:y"),
        ("SEND", *QUEUE, "h:x"),
    ],
    "subscribe with a wrong selector": ["", (*SUBSCRIBE, "selector:h h h")],
    "subscribe no-local": ["", (*SUBSCRIBE, "no-local:true"), SEND],
    "subscribe durably without a client-id": ["", (*DURABLE, "receipt:x")],
    "subscribe durably": [connect("client-id:{q}c"), (*DURABLE, "receipt:x")],
    "subscribe durably to a queue": [
        connect("client-id:{q}c"),
        SEND,
        (*DURABLE, "subscription-type:ANYCAST", "receipt:x"),
        SEND,
    ],
    "subscribe as multicast to a queue": [
        "",
        SEND,
        ("SUBSCRIBE", "id:a", "destination:{q}", "subscription-type:MULTICAST", "receipt:x"),
        ("SEND", "destination:{q}", "destination-type:MULTICAST", "receipt:m"),
        ("SEND", "destination:{q}", "receipt:n"),
    ],
    "subscribe as anycast to a topic": [
        "",
        ("SUBSCRIBE", "id:t", "destination:{q}", "subscription-type:MULTICAST", "receipt:x"),
        ("SUBSCRIBE", "id:a", *FROM_QUEUE, "receipt:y"),
        ("SEND", "destination:{q}", "receipt:n"),
        ("SEND", "destination:{q}", "destination-type:ANYCAST", "receipt:n"),
    ],
    "subscribe untyped to a queue": [
        "",
        SEND,
        ("SUBSCRIBE", "id:a", "destination:{q}", "receipt:x"),
        ("SEND", "destination:{q}", "receipt:n"),
    ],
    "subscribe to a qualified queue": [
        "",
        ("SUBSCRIBE", "id:a", "destination:{q}::{q}one", "subscription-type:MULTICAST", "receipt:x"),
        ("SEND", "destination:{q}", "destination-type:MULTICAST", "receipt:n"),
    ],
    "subscribe untyped to a qualified queue": [
        "",
        ("SUBSCRIBE", "id:a", "destination:{q}::{q}one", "receipt:x"),
        ("SEND", "destination:{q}", "receipt:n"),
    ],
    "subscribe as anycast to a qualified queue": [
        "",
        ("SUBSCRIBE", "id:a", "destination:{q}::{q}one", "subscription-type:ANYCAST", "receipt:x"),
        ("SEND", "destination:{q}", "destination-type:ANYCAST", "receipt:n"),
    ],
    "send to a qualified queue that is not there": ["", ("SEND", "destination:{q}::{q}one", "receipt:x")],
    "send typed to a qualified queue that is not there": [
        "",
        ("SEND", "destination:{q}::{q}one", "destination-type:MULTICAST", "receipt:x"),
    ],
    "send anycast to a topic": [
        "",
        ("SUBSCRIBE", "id:a", "destination:{q}", "receipt:x"),
        ("SEND", "destination:{q}", "destination-type:ANYCAST", "receipt:n"),
    ],
    "unsubscribe": ["", SUBSCRIBE, ("UNSUBSCRIBE", "id:a", "receipt:x")],
    "unsubscribe without an id": ["", SUBSCRIBE, ("UNSUBSCRIBE", "receipt:x")],
    "unsubscribe by destination": ["", SUBSCRIBE, ("UNSUBSCRIBE", "destination:{q}", "receipt:x")],
    "unsubscribe what is not subscribed": ["", ("UNSUBSCRIBE", "id:zz", "receipt:x")],
    "unsubscribe an unknown durable one": [
        connect("client-id:{q}c"),
        ("UNSUBSCRIBE", "id:a", "durable-subscription-name:zz", "receipt:x"),
    ],
    "unsubscribe a durable one without an id": [
        connect("client-id:{q}c"),
        (*DURABLE, "receipt:x"),
        ("UNSUBSCRIBE", "durable-subscription-name:d", "receipt:y"),
    ],
    "unsubscribe a durable one in use elsewhere": [
        connect("client-id:{q}c"),
        (*DURABLE, "receipt:x"),
        ("SUBSCRIBE", "id:b", "destination:{q}", "durable-subscription-name:d", "receipt:y"),
        ("UNSUBSCRIBE", "id:a", "durable-subscription-name:d", "receipt:z"),
    ],
    "ack without an id": ["", ("ACK", "receipt:x")],
    "ack of an unknown id": ["", ("ACK", "id:zz", "receipt:x")],
    "ack of an unknown message": ["", ("ACK", "id:1,999999999", "receipt:x")],
    "nack without an id": ["", ("NACK", "receipt:x")],
    "nack of an unknown id": ["", ("NACK", "id:zz", "receipt:x")],
    "auto ack": ["", SEND, ("SUBSCRIBE", "id:a", *FROM_QUEUE, "receipt:x"), ("UNSUBSCRIBE", "id:a"), SUBSCRIBE],
    "begin": ["", ("BEGIN", "transaction:t", "receipt:x")],
    "begin without a transaction": ["", ("BEGIN", "receipt:x")],
    "begin twice": ["", ("BEGIN", "transaction:t", "receipt:x"), ("BEGIN", "transaction:t", "receipt:y")],
    "begin two": ["", ("BEGIN", "transaction:t", "receipt:x"), ("BEGIN", "transaction:u", "receipt:y")],
    "commit without a transaction": ["", ("COMMIT", "receipt:x")],
    "commit of an unknown transaction": ["", ("COMMIT", "transaction:t", "receipt:x")],
    "abort of an unknown transaction": ["", ("ABORT", "transaction:t", "receipt:x")],
    "commit twice": [
        "",
        ("BEGIN", "transaction:t"),
        ("COMMIT", "transaction:t", "receipt:x"),
        ("COMMIT", "transaction:t", "receipt:y"),
    ],
    "transactions": [
        "",
        SUBSCRIBE,
        ("BEGIN", "transaction:t"),
        ("SEND", *QUEUE, "transaction:t", "receipt:x"),
        ("ABORT", "transaction:t", "receipt:y"),
        ("BEGIN", "transaction:t"),
        ("SEND", *QUEUE, "transaction:t"),
        ("COMMIT", "transaction:t", "receipt:z"),
    ],
    "subscribe in version 1.0": [
        connect(version="1.0"),
        ("SUBSCRIBE", *FROM_QUEUE, "ack:client", "receipt:x"),
        ("SEND", *QUEUE, "h:a\\nb", "receipt:y"),
        ("ACK", "message-id:zz", "receipt:z"),
    ],
    "subscribe in version 1.1": [
        connect(version="1.1"),
        ("SUBSCRIBE", "id:a", *FROM_QUEUE, "ack:client", "receipt:x"),
        ("SEND", *QUEUE, "h:a\\cb\\nc", "receipt:y"),
        ("SEND", *QUEUE, "h:a\\rb", "receipt:y"),
    ],
    "ack in version 1.1 without a subscription": [connect(version="1.1"), ("ACK", "message-id:1", "receipt:x")],
    "nack in version 1.0": [connect(version="1.0"), ("NACK", "message-id:1", "receipt:x")],
    "a receipt with special characters": ["", ("SEND", *QUEUE, "receipt:a\\cb\\nc")],
    "a body on a frame that has none": ["", frame("BEGIN", "transaction:t", "receipt:x", body=b"hello")],
    "many headers": ["", ("SEND", *QUEUE, "receipt:x", *(f"h{n}:v" for n in range(1200)))],
    "a long header": ["", ("SEND", *QUEUE, "receipt:x", "h:" + "v" * 20000)],
}

_FRAME = re.compile(rb"\n*(?P<head>.*?)\r?\n\r?\n", re.DOTALL)


def read_frames(data):
    """The whole frames in ``data``: command, header lines as they stand, body. What is left over is a frame ``...``."""
    frames = []
    while data := data.lstrip(b"\n"):
        match = _FRAME.match(data)
        if match is None:
            frames.append(("...", [], data))
            break
        command, *lines = match["head"].split(b"\n")
        rest = data[match.end() :]
        length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), None)
        end = rest.find(b"\0") if length is None else length
        frames.append((command.decode(), [line.decode(errors="replace") for line in lines], rest[:end]))
        data = rest[end + 1 :]
    return frames


class Socket:
    """A connection to a real broker: ``talk`` sends, and gives what comes back until it is quiet."""

    def __init__(self, port):
        self.closed = False
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=5)

    def talk(self, data):
        received = b""
        try:
            self._socket.sendall(data)
        except OSError:
            self.closed = True
        self._socket.settimeout(QUIET_SECONDS)
        while not self.closed:
            try:
                part = self._socket.recv(65536)
            except TimeoutError:
                break
            except OSError:
                part = b""
            self.closed = not part
            received += part
        return received

    def end(self):
        self._socket.close()


def encoded(request, user, password, name):
    """The bytes of a request, with the credentials and the destination put in."""
    if request == "":
        request = connect()
    if isinstance(request, tuple):
        request = frame(*request)
    for key, value in {"q": name, "user": user, "password": password}.items():
        request = request.replace(b"{%s}" % key.encode(), value.encode())
    return request


def ask(connection, user, password, requests, name):
    """All that comes back for ``requests``, and whether the broker hung up."""
    received = b""
    for request in requests:
        if not connection.closed:
            received += connection.talk(encoded(request, user, password, name))
    connection.end()
    return [*(normal(one, name) for one in read_frames(received)), *(["closed"] if connection.closed else [])]


_VARYING = (
    (re.compile(r"^(message-id|ack):\d+,\d+$"), r"\1:N,N"),
    (re.compile(r"^(message-id|ack):\d+$"), r"\1:N"),
    (re.compile(r"^session:.*$"), "session:S"),
    (re.compile(r"^timestamp:\d+$"), "timestamp:T"),
)


def normal(one, name):
    command, lines, body = one
    lines = [line.replace(name, "QUEUE") for line in lines]
    for pattern, replacement in _VARYING:
        lines = [pattern.sub(replacement, line) for line in lines]
    return [command, *lines, body.decode("utf-8", "backslashreplace").replace(name, "QUEUE")]


def answers(connect_to, user, password, only=REQUESTS):
    """The answers to each of ``only`` by name. ``connect_to()``: a new connection."""
    return {name: ask(connect_to(), user, password, REQUESTS[name], f"q{time.time_ns() % 10**9:09}") for name in only}


def essence(answer):
    """What must agree: of an ERROR the code, if it has one; headers in any order, lengths of texts left out."""
    found = []
    for one in answer:
        if one == "closed":
            found.append([one])
            continue
        command, *lines, body = one
        if command == "ERROR":
            message = next((line for line in lines if line.startswith("message:")), "message:").removeprefix("message:")
            found.append([command, message[:9] if message.startswith("AMQ") else "without a code"])
        else:
            found.append([command, *sorted(lines), body])
    return found
