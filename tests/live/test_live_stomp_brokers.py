"""What docs/facts.md says of ActiveMQ Classic and of RabbitMQ's STOMP plugin, on real ones and on simulated ones: each test is
named after its entries.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "wire" / "stomp"), str(HERE)]

import compare_stomp  # noqa: E402 - beside this file
import record_stomp  # noqa: E402 - beside this file
import stomp_requests  # noqa: E402 - beside the tests of the front end

pytestmark = pytest.mark.live

CLASSIC, RABBITMQ = "activemq-classic", "rabbitmq-stomp"
FIXTURES = {CLASSIC: "activemq_server", RABBITMQ: "rabbitmq_server"}
PREFETCH = {CLASSIC: "activemq.prefetchSize", RABBITMQ: "prefetch_count"}
DURABLE = {CLASSIC: {"activemq.subscriptionName": "d"}, RABBITMQ: {"durable": "true", "auto_delete": "false"}}
GRAVES = "/queue/ActiveMQ.DLQ"
KEPT = {"persistent": "true"}
SEQUENCES = 15


@dataclass
class Broker:
    """A broker to talk to, real or simulated."""

    profile: str
    connector: Any
    stack: contextlib.ExitStack

    def __call__(self, **headers: str) -> Any:
        return self.stack.enter_context(contextlib.closing(self.connector(**headers)))


@pytest.fixture(params=[(profile, kind) for profile in FIXTURES for kind in ("real", "simulated")], ids="-".join)
def connect(request: pytest.FixtureRequest) -> Any:
    profile, kind = request.param
    with contextlib.ExitStack() as stack:
        if kind == "real":
            connector = compare_stomp.connector(request.getfixturevalue(FIXTURES[profile]), profile)
        else:
            port = stack.enter_context(compare_stomp.simulated(profile))
            connector = compare_stomp.simulated_connector(port, profile)
        yield Broker(profile, connector, stack)


def only(profile: str) -> Any:
    """For tests of one of the brokers."""
    return pytest.mark.parametrize(
        "connect", [(profile, kind) for kind in ("real", "simulated")], indirect=True, ids="-".join
    )


@pytest.fixture
def name() -> str:
    return uuid4().hex


@pytest.fixture
def queue(name: str) -> str:
    return f"/queue/{name}"


def bodies(frames: list[Any]) -> list[str]:
    """The bodies, with an ``R`` behind those that are flagged as redelivered."""
    return [frame.body.decode() + ("R" if frame.redelivered else "") for frame in frames]


def fill(connect: Any, destination: str, *texts: str, **headers: str) -> None:
    producer = connect()
    for text in texts:
        assert producer.send(destination, text.encode(), **{**KEPT, **headers}).command == "RECEIPT"


def holding(connect: Any, queue: str, count: int, **headers: str) -> tuple[Any, list[Any]]:
    consumer = connect()
    consumer.subscribe(queue, **headers)
    return consumer, consumer.messages(count)


def left(connect: Any, queue: str, **headers: str) -> list[str]:
    reader = connect(**headers)
    reader.subscribe(queue)
    found = bodies(reader.messages())
    reader.disconnect()
    return found


def settle() -> None:
    """Let the broker notice that a connection is gone."""
    time.sleep(0.5)


def dead(connect: Any, original: str) -> list[Any]:
    reader = connect()
    reader.subscribe(GRAVES)
    found = [frame for frame in reader.messages() if frame.headers.get("original-destination") == original]
    reader.disconnect()
    return found


# --- both ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "disconnect"])
def test_amq_2_rst_2_all_that_was_held_comes_back_flagged_and_in_order(connect, queue, how):
    fill(connect, queue, *"12345")
    consumer, messages = holding(connect, queue, 5)
    consumer.ack(messages[1])
    getattr(consumer, how)()
    settle()
    assert left(connect, queue) == ["1R", "3R", "4R", "5R"]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_amq_3_rst_2_where_what_several_held_comes_back(connect, queue, order):
    consumers = [connect() for _ in range(3)]
    for consumer in consumers:
        consumer.subscribe(queue, **{PREFETCH[connect.profile]: "2"})
    fill(connect, queue, *"1234567")
    held = [bodies(consumer.messages(2)) for consumer in consumers]
    assert held == [["1", "4"], ["2", "5"], ["3", "6"]]
    for number in order:
        consumers[number].close()
        settle()
    back = [text for number in order for text in held[number]]
    expected = back if connect.profile == CLASSIC else sorted(back)
    assert left(connect, queue) == [*(text + "R" for text in expected), "7"]


def test_amq_4_rst_1_there_is_no_limit(connect, queue):
    fill(connect, queue, "1")
    for again in range(9):
        consumer, messages = holding(connect, queue, 1)
        assert messages[0].redelivered is (again > 0)
        consumer.close()
        settle()
    assert left(connect, queue) == ["1R"]


@pytest.mark.parametrize(("end", "remains", "out"), [("COMMIT", ["2R"], ["out"]), ("ABORT", ["1R", "2R"], [])])
def test_amq_7_rst_7_sends_and_acks_are_part_of_their_transaction(connect, queue, end, remains, out):
    fill(connect, queue, "1", "2")
    consumer, messages = holding(connect, queue, 2)
    consumer.ask("BEGIN", {"transaction": "t"})
    consumer.write("ACK", {"id": messages[0].headers["ack"], "transaction": "t"})
    consumer.write("SEND", {"destination": queue + "out", "transaction": "t", **KEPT}, b"out")
    consumer.ask(end, {"transaction": "t"})
    consumer.disconnect()
    settle()
    assert (left(connect, queue), left(connect, queue + "out")) == (remains, out)


def test_amq_7_rst_7_a_lost_connection_aborts(connect, queue):
    consumer = connect()
    consumer.ask("BEGIN", {"transaction": "t"})
    consumer.write("SEND", {"destination": queue, "transaction": "t", **KEPT}, b"lost")
    consumer.close()
    settle()
    assert left(connect, queue) == []


@pytest.mark.parametrize(("prefetch", "count"), [("1", 1), ("3", 3), (None, 20)])
def test_amq_8_rst_8_prefetch_counts_messages(connect, queue, prefetch, count):
    fill(connect, queue, *("x" for _ in range(20)))
    consumer = connect()
    consumer.subscribe(queue, **({PREFETCH[connect.profile]: prefetch} if prefetch else {}))
    messages = consumer.messages()
    assert len(messages) == count
    consumer.ack(messages[0])
    assert len(consumer.messages()) == (1 if prefetch else 0)


def test_amq_9_rst_9_consumers_take_turns(connect, queue):
    consumers = [connect() for _ in range(3)]
    for consumer in consumers:
        consumer.subscribe(queue)
    fill(connect, queue, *"1234567")
    assert [bodies(consumer.messages()) for consumer in consumers] == [["1", "4", "7"], ["2", "5"], ["3", "6"]]
    late = connect()
    late.subscribe(queue)
    fill(connect, queue, *"89ab")
    assert [bodies(consumer.messages()) for consumer in (*consumers, late)] == [["a"], ["8"], ["9"], ["b"]]


def test_amq_11_rst_12_a_durable_subscription_gathers_while_nobody_is_there(connect, name):
    topic, durable, client = f"/topic/{name}", DURABLE[connect.profile], {"client_id": name}
    member = connect(**client)
    member.subscribe(topic, "x", **durable)
    fill(connect, topic, "1", "2")
    member.ack(member.messages(2)[0])
    member.close()
    settle()
    fill(connect, topic, "3")
    again = connect(**client)
    again.subscribe(topic, "x", **durable)
    assert bodies(again.messages(2)) == (["2", "3"] if connect.profile == CLASSIC else ["2R", "3"])


@pytest.mark.parametrize("asked", ["0,0", "5000,7000", "1000,100", "0,500"])
def test_amq_17_rst_16_heart_beats_are_answered_the_other_way_round(connect, asked):
    shortest = 0 if connect.profile == CLASSIC else 1000
    sends, expects = (max(int(one), shortest) if int(one) else 0 for one in asked.split(","))
    assert connect(heart_beat=asked).connected.headers["heart-beat"] == f"{expects},{sends}"


def test_amq_17_rst_16_a_silent_client_is_cut_off_without_a_word(connect):
    client = connect(heart_beat="1000,0")
    begin = time.monotonic()
    assert client.receive(20).command == "EOF"
    assert 1.5 <= time.monotonic() - begin <= 15


# --- ActiveMQ Classic ---------------------------------------------------------------------------------------------------


@only(CLASSIC)
@pytest.mark.parametrize("mode", ["client-individual", "client"])
def test_amq_1_a_nack_is_death(connect, queue, mode):
    fill(connect, queue, *"123")
    consumer, messages = holding(connect, queue, 3, ack=mode)
    assert consumer.ask("NACK", {"id": messages[1].headers["ack"]}).command == "RECEIPT"
    assert consumer.messages() == []
    consumer.disconnect()
    settle()
    assert left(connect, queue) == ["1R", "3R"]
    (letter,) = dead(connect, queue)
    assert (letter.body, letter.redelivered, letter.headers["originalExpiration"]) == (b"2", False, "0")


@only(CLASSIC)
@pytest.mark.parametrize(
    ("kind", "kept", "buried"), [("queue", False, 0), ("topic", True, 0), ("durable", True, 1), ("durable", False, 0)]
)
def test_amq_1_what_is_not_buried(connect, name, kind, kept, buried):
    destination = f"/{'queue' if kind == 'queue' else 'topic'}/{name}"
    consumer = connect(client_id=name)
    consumer.subscribe(destination, **(DURABLE[CLASSIC] if kind == "durable" else {}))
    connect().send(destination, b"1", **(KEPT if kept else {}))
    (message,) = consumer.messages(1)
    consumer.ask("NACK", {"id": message.headers["ack"]})
    assert len(dead(connect, destination)) == buried


@only(CLASSIC)
def test_amq_2_unsubscribe_gives_back_and_amq_5_acks_do_nothing_after_it(connect, queue):
    fill(connect, queue, *"123")
    consumer, messages = holding(connect, queue, 3)
    consumer.ask("UNSUBSCRIBE", {"id": "s"})
    assert consumer.ack(messages[0]).command == "RECEIPT"
    assert left(connect, queue) == ["1R", "2R", "3R"]


@only(CLASSIC)
def test_amq_5_a_second_ack_is_an_error_and_amq_6_the_session_goes_on(connect, queue):
    fill(connect, queue, "1")
    consumer, (message,) = holding(connect, queue, 1)
    consumer.ack(message)
    answer = consumer.ack(message)
    assert (answer.command, answer.headers["message"]) == ("ERROR", "Unexpected ACK received for message-id [null]")
    fill(connect, queue, "2")
    assert bodies(consumer.messages(1)) == ["2"]


@only(CLASSIC)
def test_amq_7_an_ack_in_a_transaction_makes_room_and_a_nack_is_refused(connect, queue):
    fill(connect, queue, *"12")
    consumer, (message,) = holding(connect, queue, 1, **{PREFETCH[CLASSIC]: "1"})
    consumer.ask("BEGIN", {"transaction": "t"})
    consumer.ask("ACK", {"id": message.headers["ack"], "transaction": "t"})
    (second,) = consumer.messages(1)
    consumer.ask("ABORT", {"transaction": "t"})
    assert consumer.ack(message).command == "RECEIPT"
    consumer.ask("BEGIN", {"transaction": "u"})
    answer = consumer.ask("NACK", {"id": second.headers["ack"], "transaction": "u"})
    assert "Poison ack cannot be transacted" in answer.headers["message"]
    consumer.disconnect()
    settle()
    assert left(connect, queue) == ["2R"]


@only(CLASSIC)
def test_amq_8_a_prefetch_of_nothing_gets_nothing(connect, queue):
    fill(connect, queue, "1")
    consumer = connect()
    consumer.subscribe(queue, **{PREFETCH[CLASSIC]: "0"})
    assert consumer.messages() == []


@only(CLASSIC)
def test_amq_21_one_that_acks_nothing_has_room_whatever_its_prefetch(connect, queue):
    consumers = [connect(), connect()]
    consumers[0].subscribe(queue, ack="auto", **{PREFETCH[CLASSIC]: "1"})
    consumers[1].subscribe(queue)
    fill(connect, queue, *"1234567")
    assert [bodies(consumer.messages()) for consumer in consumers] == [["1", "3", "5", "7"], ["2", "4", "6"]]


@only(CLASSIC)
@pytest.mark.parametrize("shape", ["{}", "queue://{}", "/other/{}"])
def test_amq_10_any_other_text_is_a_queue(connect, name, shape):
    destination = shape.format(name)
    fill(connect, destination, "1")
    consumer = connect()
    consumer.subscribe(destination)
    assert consumer.messages(1)[0].headers["destination"] == f"/queue/{destination}"


@only(CLASSIC)
def test_amq_11_a_durable_subscription_in_use_is_refused_and_ends_when_told(connect, name):
    topic, durable = f"/topic/{name}", DURABLE[CLASSIC]
    member = connect(client_id=name)
    member.subscribe(topic, "x", **durable)
    assert "in use" in member.subscribe(topic, "y", **durable).headers["message"]
    assert "in use" in member.ask("UNSUBSCRIBE", {"id": "x", **durable}).headers["message"]
    member.ask("UNSUBSCRIBE", {"id": "x"})
    assert member.ask("UNSUBSCRIBE", {"id": "x", **durable}).command == "RECEIPT"
    fill(connect, topic, "1")
    member.subscribe(topic, "x", **durable)
    assert member.messages() == []
    assert "cannot durably subscribe" in member.subscribe(f"/queue/{name}", "q", **durable).headers["message"]


@only(CLASSIC)
def test_amq_12_a_client_id_belongs_to_one_connection(connect, name):
    first = connect(client_id=name)
    second = connect(client_id=name)
    assert (second.connected.command, second.receive(5).command) == ("ERROR", "EOF")
    first.close()
    settle()
    assert connect(client_id=name).connected.command == "CONNECTED"
    assert connect().subscribe(f"/topic/{name}", **DURABLE[CLASSIC]).command == "RECEIPT"


@only(CLASSIC)
def test_amq_13_headers(connect, queue):
    producer = connect()
    producer.send_raw(f"SEND\ndestination:{queue}\nh:a:b\nJMSXGroupID2:g\nmessage-id:mine\n\n\0".encode())
    consumer = connect()
    consumer.subscribe(queue)
    (message,) = consumer.messages(1)
    assert message.headers["h"] == "a:b"
    assert message.headers["message-id"] != "mine"
    assert "content-length" not in message.headers


@only(CLASSIC)
def test_amq_14_a_delayed_message_is_sent_when_it_is_due_and_priorities_change_no_order(connect, queue):
    fill(connect, queue, "late", AMQ_SCHEDULED_DELAY="1000")
    fill(connect, queue, "1", priority="1")
    fill(connect, queue, "9", priority="9")
    time.sleep(3)
    consumer = connect()
    consumer.subscribe(queue)
    messages = consumer.messages(3)
    assert bodies(messages) == ["1", "9", "late"]
    assert "scheduledJobId" in messages[2].headers


@only(CLASSIC)
def test_amq_15_what_expires_is_buried(connect, queue):
    soon = str(int(time.time() * 1000) + 500)
    fill(connect, queue, "1")
    fill(connect, queue, "short", expires=soon)
    connect().send(queue + "x", b"transient", expires=soon)
    time.sleep(1.5)
    assert (left(connect, queue), left(connect, queue + "x")) == (["1"], [])
    (letter,) = dead(connect, queue)
    assert letter.headers["dlqDeliveryFailureCause"].startswith("java.lang.Throwable: Message Expired.")
    assert dead(connect, queue + "x") == []


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_amq_20_a_restart_forgets_what_was_delivered(own_activemq_server, how):
    server = own_activemq_server
    server.start()
    with contextlib.ExitStack() as stack:
        connect = Broker(CLASSIC, compare_stomp.connector(server, CLASSIC), stack)
        fill(connect, "/queue/held", *"123")
        fill(connect, "/queue/before", *"123")
        connect().send("/queue/held", b"transient")
        fill(connect, "/queue/later", "late", AMQ_SCHEDULED_DELAY="4000")
        member = connect(client_id="c")
        member.subscribe("/topic/t", "x", **DURABLE[CLASSIC])
        fill(connect, "/topic/t", "news")
        member.messages(1)
        consumer, _ = holding(connect, "/queue/before", 3)
        consumer.disconnect()
        holding(connect, "/queue/held", 3)
        getattr(server, how)()
        server.start()
        assert left(connect, "/queue/held") == ["1", "2", "3"]
        assert left(connect, "/queue/before") == ["1", "2", "3"]
        member = connect(client_id="c")
        member.subscribe("/topic/t", "x", **DURABLE[CLASSIC])
        assert bodies(member.messages(1)) == ["news"]
        late = connect()
        late.subscribe("/queue/later")
        assert bodies(late.messages(1)) == ["late"]


# --- RabbitMQ -----------------------------------------------------------------------------------------------------------


@only(RABBITMQ)
@pytest.mark.parametrize(
    ("mode", "headers", "again", "remain"),
    [
        ("client-individual", {}, ["2R"], ["1R", "2R", "3R"]),
        ("client-individual", {"requeue": "false"}, [], ["1R", "3R"]),
        ("client", {}, ["1R", "2R"], ["1R", "2R", "3R"]),
    ],
)
def test_rst_1_a_nack_means_again(connect, queue, mode, headers, again, remain):
    fill(connect, queue, *"123")
    consumer, messages = holding(connect, queue, 3, ack=mode)
    consumer.ask("NACK", {"id": messages[1].headers["ack"], **headers})
    assert bodies(consumer.messages()) == again
    consumer.disconnect()
    settle()
    assert left(connect, queue) == remain


@only(RABBITMQ)
def test_rst_3_unsubscribe_gives_nothing_back(connect, queue):
    fill(connect, queue, *"123")
    consumer, messages = holding(connect, queue, 3)
    consumer.ask("UNSUBSCRIBE", {"id": "s"})
    assert left(connect, queue) == []
    assert consumer.ack(messages[0]).headers["message"] == "Subscription not found"
    consumer.subscribe(queue)
    assert consumer.ack(messages[0]).command == "RECEIPT"
    consumer.close()
    settle()
    assert left(connect, queue) == ["2R", "3R"]


@only(RABBITMQ)
def test_rst_4_a_cumulative_ack_is_one_for_all_subscriptions(connect, queue):
    consumer = connect()
    for one in "ab":
        consumer.subscribe(queue, one, ack="client", prefetch_count="2")
    fill(connect, queue, *"1234")
    messages = consumer.messages(4)
    assert (
        consumer.ack([message for message in messages if message.headers["subscription"] == "b"][-1]).command
        == "RECEIPT"
    )
    consumer.close()
    settle()
    last = max(int(message.body) for message in messages if message.headers["subscription"] == "b")
    assert left(connect, queue) == [f"{n}R" for n in range(last + 1, 5)]


@only(RABBITMQ)
def test_rst_5_a_second_ack_ends_the_connection(connect, queue):
    fill(connect, queue, "1")
    consumer, (message,) = holding(connect, queue, 1)
    consumer.ack(message)
    assert consumer.ack(message).command == "RECEIPT"
    error = consumer.receive(5)
    assert (error.command, error.headers["message"]) == ("ERROR", "precondition_failed")
    assert consumer.receive(5).command == "EOF"


@only(RABBITMQ)
def test_rst_6_the_plugins_complaints_leave_the_session_open(connect, queue):
    client = connect()
    client.write("SEND", {"destination": "/nowhere/x"})
    assert client.receive(5).headers["message"] == "Unknown destination"
    assert client.send(queue, b"1").command == "RECEIPT"
    client.write("SUBSCRIBE", {"id": "s", "destination": f"/amq{queue}none"})
    assert client.receive(5).headers["message"] == "not_found"
    assert client.receive(5).command == "EOF"


@only(RABBITMQ)
def test_rst_7_receipts_in_a_transaction_come_after_that_of_the_commit(connect, queue):
    client = connect()
    client.ask("BEGIN", {"transaction": "t"})
    client.write("SEND", {"destination": queue, "transaction": "t", "receipt": "send"}, b"1")
    assert client.messages() == []
    client.write("COMMIT", {"transaction": "t", "receipt": "commit"})
    assert [client.receive(5).headers["receipt-id"] for _ in range(2)] == ["commit", "send"]


@only(RABBITMQ)
def test_rst_10_destinations_and_rst_11_what_a_message_says(connect, name):
    client = connect()
    for destination, slot in (("/topic/{}.*", "t"), ("/topic/{}.#", "h"), ("/exchange/amq.direct/{}", "d")):
        client.subscribe(destination.format(name), slot)
    client.subscribe(name, "q")
    producer = connect()
    for destination in (
        "/topic/{}.a",
        "/topic/{}.a.b",
        "/exchange/amq.topic/{}",
        "/exchange/amq.direct/{}",
        "/amq/queue/{}",
    ):
        producer.send(destination.format(name), b"")
    seen = sorted(
        (one.headers["subscription"], one.headers["destination"].replace(name, "x")) for one in client.messages()
    )
    topics = [("h", "/topic/x"), ("h", "/topic/x.a"), ("h", "/topic/x.a.b")]
    assert seen == [("d", "/exchange/amq.direct/x"), *topics, ("q", "/queue/x"), ("t", "/topic/x.a")]


@only(RABBITMQ)
def test_rst_12_a_durable_subscription_ends_for_all(connect, name):
    topic, durable = f"/topic/{name}", DURABLE[RABBITMQ]
    one, other = connect(), connect()
    for member in (one, other):
        member.subscribe(topic, "x", **durable)
    one.ask("UNSUBSCRIBE", {"id": "x", "durable": "true"})
    error = other.receive(5)
    assert (error.headers["message"], error.headers["subscription"]) == ("Server cancelled subscription", "x")
    fill(connect, topic, "1")
    one.subscribe(topic, "x", **durable)
    assert one.messages() == []


@only(RABBITMQ)
def test_rst_13_and_14_headers(connect, queue):
    producer = connect()
    assert producer.send(queue, b"", message_id="mine").headers["message"] == "Invalid header"
    producer.send(queue, b"x", receipts="kept", expires="1", priority="7")
    producer.send(queue, b"gone", expiration="200")
    time.sleep(1)
    consumer = connect()
    consumer.subscribe(queue)
    (message,) = consumer.messages()
    assert {name: message.headers[name] for name in ("expires", "priority", "redelivered")} == {
        "expires": "1",
        "priority": "7",
        "redelivered": "false",
    }
    assert producer.send(queue, b"", priority="high").headers["message"] == "Processing error"


def test_rst_15_the_host_is_a_virtual_host(rabbitmq_server):
    import servers.stomp

    with contextlib.closing(servers.stomp.Stomp(rabbitmq_server.stomp_port, "guest", "guest")) as client:
        assert client.connected.body == b"Virtual host 'localhost' access denied"


# --- side by side -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", FIXTURES)
def test_amq_6_rst_6_the_recorded_answers_are_those_of_the_real_server(profile, request):
    server = request.getfixturevalue(FIXTURES[profile])
    recorded = json.loads(stomp_requests.recorded(profile).read_text())
    asked = stomp_requests.ASKED[profile]
    different = dict(asked)
    for _ in range(2):  # again, where a loaded machine was late
        found = record_stomp.asked(server, profile, different)
        different = {name: asked[name] for name in found if essence(found[name]) != essence(recorded[name])}
    assert list(different) == []


def essence(answer: Any) -> list[str]:
    # Who sent too much is told so, and again for each piece in which the rest of it comes.
    too_long = next(
        (n for n, one in enumerate(answer) if one[0] == "ERROR" and "was exceeded" in str(one)), len(answer)
    )
    answer = [one for n, one in enumerate(answer) if n <= too_long or one == "closed"]
    # Names of users, of queues that the broker makes, and the order of what was answered at one time.
    found = sorted(map(str, stomp_requests.essence(answer, coded=False)))
    return [one.partition("amq.gen-")[0].partition("User name [")[0] for one in found]


@pytest.mark.parametrize("profile", FIXTURES)
def test_generated_sequences_look_the_same(profile, request):
    found = compare_stomp.differences(request.getfixturevalue(FIXTURES[profile]), range(SEQUENCES), profile)
    assert {seed: lines for seed, lines in found if lines} == {}
