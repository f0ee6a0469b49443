"""Single requests to a STOMP broker, most of them wrong in some way, and what it answers: raw frames over a bare socket."""

import re
import socket
import time
from pathlib import Path

QUIET_SECONDS = 0.25


def frame(command, *headers, body=b""):
    return b"\n".join([command.encode(), *(line.encode() for line in headers), b"", b""]) + body + b"\0"


def connect(*headers, version="1.2"):
    return ("CONNECT", f"accept-version:{version}", "host:{host}", "login:{user}", "passcode:{password}", *headers)


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
    "connect with a wrong password": [("CONNECT", "accept-version:1.2", "host:{host}", "login:{user}", "passcode:x")],
    "connect without a login": [("CONNECT", "accept-version:1.2", "host:{host}")],
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
    "send with an empty expiry": ["", ("SEND", *QUEUE, "expires:", "receipt:x")],
    "send with a delay and a time": [
        "",
        ("SEND", *QUEUE, "AMQ_SCHEDULED_DELAY:0", "AMQ_SCHEDULED_TIME:99999999999999", "receipt:x"),
        SUBSCRIBE,
    ],
    "send persistent in capitals": ["", ("SEND", *QUEUE, "persistent:TRUE", "receipt:x"), SUBSCRIBE],
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
    "subscribe with a window that only Python reads": ["", (*SUBSCRIBE, "consumer-window-size:1_0")],
    "subscribe with a window after a space": ["", (*SUBSCRIBE, "consumer-window-size: 5")],
    "subscribe with a window past 31 bits": ["", (*SUBSCRIBE, "consumer-window-size:2147483648")],
    "subscribe with a window below none": ["", (*SUBSCRIBE, "consumer-window-size:-2"), SEND],
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
    "subscribe to a topic between a send in a transaction and its commit": [
        "",
        ("BEGIN", "transaction:t"),
        ("SEND", "destination:{q}", "transaction:t", "receipt:x"),
        ("SUBSCRIBE", "id:a", "destination:{q}", "receipt:u"),
        ("COMMIT", "transaction:t", "receipt:y"),
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

# --- what is asked of the other brokers ---------------------------------------------------------------------------------

ARTEMIS_ONLY = {
    # Its own headers, and names that only it knows.
    "subscribe to a topic between a send in a transaction and its commit",
    *("send with an empty expiry", "send with a delay and a time", "send persistent in capitals"),
    *("subscribe with a window that only Python reads", "subscribe with a window after a space"),
    *("subscribe with a window past 31 bits", "subscribe with a window below none"),
    *("send with a wrong type", "send with a lower case type", "send to a topic", "subscribe with a wrong type"),
    *("subscribe with a wrong window", "subscribe as multicast to a queue", "subscribe as anycast to a topic"),
    *("subscribe untyped to a queue", "subscribe to a qualified queue", "subscribe untyped to a qualified queue"),
    *("subscribe as anycast to a qualified queue", "send to a qualified queue that is not there"),
    *("send typed to a qualified queue that is not there", "send anycast to a topic"),
    *("subscribe durably without a client-id", "subscribe durably", "subscribe durably to a queue"),
    *("unsubscribe an unknown durable one", "unsubscribe a durable one without an id"),
    *("unsubscribe a durable one in use elsewhere",),
}
_TYPES = {"destination-type:ANYCAST", "subscription-type:ANYCAST"}


def _plain(request):
    """A request to Artemis as one to a broker that takes what a destination is from its prefix."""
    if isinstance(request, bytes):
        return (
            request.replace(b"destination-type:ANYCAST\n", b"")
            .replace(b"destination-type:ANYCAST\r\n", b"")
            .replace(b"destination:{q}", b"destination:/queue/{q}")
        )
    if isinstance(request, str):
        return request
    return tuple(line.replace("destination:{q}", "destination:/queue/{q}") for line in request if line not in _TYPES)


_COMMON = {
    name: [_plain(request) for request in requests] for name, requests in REQUESTS.items() if name not in ARTEMIS_ONLY
}
_Q_SEND = _plain(SEND)
_Q_SUBSCRIBE = _plain(SUBSCRIBE)


def _subscribed(*headers, ack="client-individual", name="a"):
    return ("SUBSCRIBE", f"id:{name}", f"ack:{ack}", "receipt:u", *headers)


def _sent(destination, *headers):
    return ("SEND", f"destination:{destination}", "receipt:s", *headers)


def _sent_to_each(destinations):
    return {f"send to {shape}": ["", _sent(shape)] for shape in destinations}


def _sent_and_received(destinations):
    return {
        f"send and receive {shape}": ["", _subscribed(f"destination:{shape}"), _sent(shape)] for shape in destinations
    }


_SHAPES = ("/queue/{q}", "/queue/{q}/deeper", "/queue/{q}.a:b c", "/topic/{q}", "/topic/{q}.a.b", "/temp-queue/{q}")
_BOTH = {
    **_COMMON,
    **_sent_and_received(_SHAPES),
    "send to a topic without subscribers": ["", _sent("/topic/{q}"), _subscribed("destination:/topic/{q}")],
    "subscribe twice to a topic": [
        "",
        _subscribed("destination:/topic/{q}"),
        _subscribed("destination:/topic/{q}", name="b"),
        _sent("/topic/{q}", "h:v"),
    ],
    "two subscriptions of a queue": [
        "",
        _subscribed("destination:/queue/{q}"),
        _subscribed("destination:/queue/{q}", name="b"),
        _sent("/queue/{q}", "n:1"),
        _sent("/queue/{q}", "n:2"),
        _sent("/queue/{q}", "n:3"),
    ],
    "unsubscribe with messages held": [
        "",
        _Q_SEND,
        _Q_SUBSCRIBE,
        ("UNSUBSCRIBE", "id:a", "receipt:x"),
        _subscribed("destination:/queue/{q}", name="b"),
    ],
    "a message without a body as auto": ["", _subscribed("destination:/queue/{q}", ack="auto"), _Q_SEND],
    "headers of the broker's own": [
        "",
        _sent("/queue/{q}", "message-id:mine", "timestamp:7", "subscription:x", "redelivered:true", "ack:no"),
        _Q_SUBSCRIBE,
    ],
    "well-known headers": [
        "",
        _sent("/queue/{q}", "content-type:text/plain", "correlation-id:c", "type:t", "priority:4", "expires:0"),
        _Q_SUBSCRIBE,
    ],
}


def _of_rabbitmq():
    shapes = ("/exchange/amq.direct/{q}", "/exchange/amq.topic/{q}", "/amq/queue/{q}", "/exchange/{q}", "/other/{q}")
    bare = ("{q}", "/queue/", "/topic/", "/exchange/", "queue/{q}", "/exchange/amq.direct", "/reply-queue/{q}")
    durable = ("destination:/topic/{q}", "durable:true", "auto-delete:false")
    return {
        **_BOTH,
        **_sent_and_received(shapes),
        **_sent_to_each((*shapes, *bare)),
        **{f"subscribe to {shape}": ["", _subscribed(f"destination:{shape}")] for shape in bare},
        "an amq queue that is there": ["", _Q_SEND, _subscribed("destination:/amq/queue/{q}"), _sent("/amq/queue/{q}")],
        "another virtual host": [
            ("CONNECT", "accept-version:1.2", "host:none", "login:{user}", "passcode:{password}"),
        ],
        "prefetch-count": [
            "",
            _sent("/queue/{q}", "n:1"),
            _sent("/queue/{q}", "n:2"),
            _subscribed("destination:/queue/{q}", "prefetch-count:1"),
        ],
        "a wrong prefetch-count": ["", _subscribed("destination:/queue/{q}", "prefetch-count:few")],
        "subscribe durably": ["", _subscribed(*durable), _sent("/topic/{q}")],
        "subscribe durably by persistent": [
            "",
            _subscribed("destination:/topic/{q}", "persistent:true"),
            _sent("/topic/{q}"),
        ],
        "subscribe durably without an id": ["", ("SUBSCRIBE", *durable, "receipt:u")],
        "subscribe durably and come back": [
            "",
            _subscribed(*durable),
            ("UNSUBSCRIBE", "id:a", "receipt:x"),
            _sent("/topic/{q}", "n:1"),
            _subscribed(*durable),
        ],
        "end a durable subscription": [
            "",
            _subscribed(*durable),
            ("UNSUBSCRIBE", "id:a", "destination:/topic/{q}", "durable:true", "receipt:x"),
            _sent("/topic/{q}", "n:1"),
            _subscribed(*durable),
        ],
        "end a durable subscription without a destination": [
            "",
            _subscribed(*durable),
            ("UNSUBSCRIBE", "id:a", "durable:true", "receipt:x"),
        ],
        "a topic's pattern": [
            "",
            _subscribed("destination:/topic/{q}.*"),
            _sent("/topic/{q}.a"),
            _sent("/topic/{q}.a.b"),
            _sent("/topic/{q}"),
        ],
        "a topic's long pattern": [
            "",
            _subscribed("destination:/topic/{q}.#"),
            _sent("/topic/{q}.a.b"),
            _sent("/topic/{q}"),
        ],
        "declare a queue otherwise": ["", _Q_SEND, _subscribed("destination:/queue/{q}", "x-message-ttl:5000")],
        "a queue that deletes itself": ["", _subscribed("destination:/queue/{q}", "auto-delete:true"), _Q_SEND],
        "a quorum queue": ["", _subscribed("destination:/queue/{q}", "x-queue-type:quorum"), _Q_SEND],
        "a queue with a name of its own": [
            "",
            _subscribed("destination:/topic/{q}", "x-queue-name:{q}own"),
            _sent("/amq/queue/{q}own"),
        ],
        "an exclusive queue": ["", _subscribed("destination:/queue/{q}", "exclusive:true"), _Q_SEND],
        "reply to a temporary queue": ["", _sent("/queue/{q}", "reply-to:/temp-queue/{q}"), _Q_SUBSCRIBE],
        "expiration": ["", _sent("/queue/{q}", "expiration:60000", "priority:3"), _Q_SUBSCRIBE],
        "wrong expiration": ["", _sent("/queue/{q}", "expiration:soon"), _Q_SUBSCRIBE],
        "wrong priority in a queue": ["", _sent("/queue/{q}", "priority:many"), _Q_SUBSCRIBE],
        "amqp headers": [
            "",
            _sent(
                "/queue/{q}",
                "amqp-message-id:m",
                "app-id:app",
                "user-id:guest",
                "content-encoding:gzip",
                "delivery-mode:2",
            ),
            _Q_SUBSCRIBE,
        ],
        "send in a transaction of no name": ["", _sent("/queue/{q}", "transaction:")],
        "nack with a requeue that is neither": [
            "",
            _Q_SEND,
            _Q_SUBSCRIBE,
            ("NACK", "id:T_a@@session-1@@1", "requeue:maybe", "receipt:x"),
        ],
        "ack of a number that is none": [
            "",
            _Q_SEND,
            _Q_SUBSCRIBE,
            ("ACK", "id:T_a@@session-1@@x", "receipt:x"),
        ],
        **_sent_and_received(("/queue/{q}%2Fa%20%é~", "/topic/{q}%2Fa%2f", "/exchange/amq.direct/{q}%3Aa\t")),
        "another's user-id": ["", _sent("/queue/{q}", "user-id:else")],
    }


def _of_activemq():
    shapes = (
        "{q}",
        "queue://{q}",
        "topic://{q}",
        "/temp-topic/{q}",
        "/queue/{q}.>",
        "/queue/{q},/queue/{q}b",
        "/other/{q}",
    )
    bare = ("/queue/", "/topic/", "/queue/{q}.*", "/queue/{q}?consumer.prefetchSize=1", "/dsub/{q}")
    durable = ("destination:/topic/{q}", "activemq.subscriptionName:d")
    client = connect("client-id:{q}c")
    return {
        **_BOTH,
        **_sent_and_received(shapes),
        **_sent_to_each((*shapes, *bare)),
        "prefetch": [
            "",
            _sent("/queue/{q}", "n:1"),
            _sent("/queue/{q}", "n:2"),
            _subscribed("destination:/queue/{q}", "activemq.prefetchSize:1"),
        ],
        "no prefetch": [
            "",
            _sent("/queue/{q}", "n:1"),
            _subscribed("destination:/queue/{q}", "activemq.prefetchSize:0"),
        ],
        "a wrong prefetch": ["", _subscribed("destination:/queue/{q}", "activemq.prefetchSize:few")],
        "a selector of numbers": [
            "",
            _subscribed("destination:/queue/{q}", "selector:n = 2"),
            _sent("/queue/{q}", "n:1"),
            _sent("/queue/{q}", "n:2"),
        ],
        "subscribe durably without a client-id": ["", _subscribed(*durable), _sent("/topic/{q}")],
        "subscribe durably": [client, _subscribed(*durable), _sent("/topic/{q}")],
        "subscribe durably to a queue": [
            client,
            _subscribed("destination:/queue/{q}", "activemq.subscriptionName:d"),
            _Q_SEND,
        ],
        "subscribe durably and come back": [
            client,
            _subscribed(*durable),
            ("UNSUBSCRIBE", "id:a", "receipt:x"),
            _sent("/topic/{q}", "n:1", "persistent:true"),
            _subscribed(*durable),
        ],
        "end a durable subscription": [
            client,
            _subscribed(*durable),
            ("UNSUBSCRIBE", "id:a", "receipt:x"),
            ("UNSUBSCRIBE", "id:a", "activemq.subscriptionName:d", "receipt:y"),
            _sent("/topic/{q}", "n:1", "persistent:true"),
            _subscribed(*durable),
        ],
        "end a durable subscription at once": [
            client,
            _subscribed(*durable),
            ("UNSUBSCRIBE", "id:a", "activemq.subscriptionName:d", "receipt:y"),
        ],
        "end an unknown durable subscription": [
            client,
            ("UNSUBSCRIBE", "id:a", "activemq.subscriptionName:zz", "receipt:x"),
        ],
        "a durable subscription twice": [
            client,
            _subscribed(*durable),
            _subscribed(*durable, name="b"),
            _sent("/topic/{q}", "n:1"),
        ],
        "exclusive": ["", _subscribed("destination:/queue/{q}", "activemq.exclusive:true"), _Q_SEND],
        "retroactive": ["", _subscribed("destination:/topic/{q}", "activemq.retroactive:true"), _sent("/topic/{q}")],
        "an unknown option": ["", _subscribed("destination:/queue/{q}", "activemq.nonsense:1"), _Q_SEND],
        "a delay": ["", _sent("/queue/{q}", "AMQ_SCHEDULED_DELAY:50"), _Q_SUBSCRIBE],
        "a group": ["", _sent("/queue/{q}", "JMSXGroupID:g"), _Q_SUBSCRIBE],
        "a transformation": ["", _sent("/queue/{q}", "transformation:jms-map-json"), _Q_SUBSCRIBE],
        "expired": ["", _sent("/queue/{q}", "expires:5"), _Q_SUBSCRIBE],
        "reply to a temporary queue": ["", _sent("/queue/{q}", "reply-to:/temp-queue/{q}"), _Q_SUBSCRIBE],
    }


ASKED = {"artemis": REQUESTS, "activemq-classic": _of_activemq(), "rabbitmq-stomp": _of_rabbitmq()}
"""By profile: what is asked of each broker."""


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


def encoded(request, user, password, name, host="localhost"):
    """The bytes of a request, with the credentials and the destination put in."""
    if request == "":
        request = connect()
    if isinstance(request, tuple):
        request = frame(*request)
    for key, value in {"q": name, "user": user, "password": password, "host": host}.items():
        request = request.replace(b"{%s}" % key.encode(), value.encode())
    return request


def ask(connection, user, password, requests, name, host="localhost"):
    """All that comes back for ``requests``, and whether the broker hung up."""
    received = b""
    for request in requests:
        if not connection.closed:
            received += connection.talk(encoded(request, user, password, name, host))
    connection.end()
    return [*(normal(one, name) for one in read_frames(received)), *(["closed"] if connection.closed else [])]


_VARYING = (
    (re.compile(r"^(message-id|ack):\d+,\d+$"), r"\1:N,N"),
    (re.compile(r"^(message-id|ack):\d+$"), r"\1:N"),
    (re.compile(r"^(message-id|ack|scheduledJobId):ID(\\c|:).*$"), r"\1:ID"),
    (re.compile(r"^(message-id|ack):(.*)@@session-[^@]*@@(\d+)$"), r"\1:\2@@S@@\3"),
    (re.compile(r"^session:.*$"), "session:S"),
    (re.compile(r"^timestamp:\d+$"), "timestamp:T"),
)


def normal(one, name):
    command, lines, body = one
    lines = [line.replace(name, "QUEUE") for line in lines]
    for pattern, replacement in _VARYING:
        lines = [pattern.sub(replacement, line) for line in lines]
    return [command, *lines, body.decode("utf-8", "backslashreplace").replace(name, "QUEUE")]


def answers(connect_to, user, password, asked=REQUESTS, *, host="localhost"):
    """The answers to each of ``asked`` by name. ``connect_to()``: a new connection."""
    return {
        name: ask(connect_to(), user, password, requests, f"q{time.time_ns() % 10**9:09}", host)
        for name, requests in asked.items()
    }


def essence(answer, *, coded=True):
    """What must agree: of an ERROR its code, if it has one, or (not ``coded``) its message; headers in any order."""
    found = []
    for one in answer:
        if one == "closed":
            found.append([one])
            continue
        command, *lines, body = one
        if command == "ERROR":
            message = next((line for line in lines if line.startswith("message:")), "message:").removeprefix("message:")
            if coded:
                message = message[:9] if message.startswith("AMQ") else "without a code"
            message = message.replace("\\c", ":")
            found.append([command, message])
        else:
            found.append([command, *sorted(lines), body])
    return found


def recorded(profile):
    """Where the answers of the real broker are kept."""
    return Path(__file__).parent / f"answers_of_{RECORDED[profile]}.json"


RECORDED = {
    "artemis": "artemis_2_44_0",
    "activemq-classic": "activemq_classic_5_17_2",
    "rabbitmq-stomp": "rabbitmq_3_10_8",
}
HOSTS = {"artemis": "localhost", "activemq-classic": "localhost", "rabbitmq-stomp": "/"}
"""The header ``host`` of CONNECT: a virtual host, to RabbitMQ."""
