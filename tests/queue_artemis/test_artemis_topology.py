"""Names on Artemis: what is sent to and subscribed to for each kind of address."""

from __future__ import annotations

import pytest

from factflow_infra.queue.artemis.topology import Route, Source, route_of, sources_of
from factflow_infra.queue.naming import StompNamingStrategy
from factflow_infra.queue.transport import Address

READ = StompNamingStrategy().destination


def test_queues_are_anycast_and_topics_multicast() -> None:
    assert (
        route_of(Address(READ("orders")))
        == route_of(Address(READ("/queue/orders")))
        == Route("/queue/orders", "ANYCAST")
    )
    assert sources_of(Address(READ("orders"))) == (Source("/queue/orders", "ANYCAST"),)
    assert route_of(Address(READ("/topic/news"))) == Route("/topic/news", "MULTICAST")


def test_a_retry_to_a_durable_subscription_is_sent_without_a_type_to_its_own_queue() -> None:
    """With the topic's type it would reach every subscription, right after a publish to the topic (ART-13)."""
    address = Address(READ("/topic/news"), "mail er/ü")
    (source,) = sources_of(address)
    assert source == Source("/topic/news", "MULTICAST", "mail%20er%2F%C3%BC/topic/news")
    assert route_of(address) == Route("/topic/news::factflow.mail%20er%2F%C3%BC/topic/news", None)


def test_an_unnamed_subscription_takes_from_an_address_of_its_own_too() -> None:
    address = Address(READ("/topic/news"), "unnamed-1", durable=False)
    topic, own = sources_of(address)
    assert (topic, own) == (Source("/topic/news", "MULTICAST"), Source("factflow.own.unnamed-1", "MULTICAST"))
    assert route_of(address) == Route(own.destination, own.routing_type)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("/topic/a", "b"), ("/topic/b", "a")),
        (("/topic/a/b", "c"), ("/topic/a", "b/c")),
        (("/topic/a", "%2F"), ("/topic/a", "/")),
    ],
)
def test_no_two_subscriptions_share_a_queue(one: tuple[str, str], other: tuple[str, str]) -> None:
    names = {sources_of(Address(READ(topic), name))[0].durable_name for topic, name in (one, other)}
    assert len(names) == 2
