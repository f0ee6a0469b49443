"""Settings of a provider on each tier: a test that gives some may change its tier."""

import asyncio
from dataclasses import fields

import pytest
from simulated_runs import message, passing, run_once

from factflow_infra.errors import InvalidMessageError, SettingsError
from factflow_infra.queue.settings import QueueSettings
from factflow_infra_testing.broker.events import DELIVERED
from factflow_infra_testing.search.run import RunOptions

TIERS = ["model", "wire"]


def delivered(tier, **settings):
    """How many of five messages the broker hands to a subscription whose first handling never ends."""
    counts = []

    async def never_done(_):
        await asyncio.Event().wait()

    async def scenario(sim):
        queue = sim.queue(tier=tier, **settings)
        for name in "abcde":
            await queue.publish("orders", message(name))
        await queue.subscribe("orders", never_done)
        await sim.sleep(10)
        counts.append(sum(event.kind == DELIVERED for event in sim.queue_events()))

    passing(scenario)
    return counts[0]


@pytest.mark.parametrize("tier", TIERS)
def test_a_setting_of_the_engine_means_the_same_on_each_tier(tier):
    assert delivered(tier) == 5
    assert delivered(tier, prefetch=2) == 2
    assert delivered(tier, prefetch=3, heartbeat=5, connect_timeout=7.0) == 3


@pytest.mark.parametrize("tier", TIERS)
def test_a_message_that_a_setting_forbids_is_refused_on_each_tier(tier):
    async def scenario(sim):
        queue = sim.queue(tier=tier, max_message_bytes=100)
        with pytest.raises(InvalidMessageError, match="100"):
            await queue.publish("orders", message("a" * 200))

    passing(scenario)


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("settings", [{"prefetch": 0}, {"prefetched": 1}])
def test_a_wrong_setting_is_refused_on_each_tier(tier, settings):
    async def scenario(sim):
        sim.queue(tier=tier, **settings)

    failure = run_once(scenario).failure
    assert isinstance(failure, SettingsError)
    assert next(iter(settings)) in str(failure)


def test_the_model_has_no_settings_of_a_connection_and_says_what_it_has():
    async def scenario(sim):
        sim.queue(tier="model", tls_verify=False)

    failure = run_once(scenario).failure
    assert isinstance(failure, SettingsError)
    assert str(failure).startswith(
        "tier 'model' has no setting 'tls_verify'; it has batch_window, cancel_grace, connect_timeout, "
    )


def test_the_model_takes_every_setting_that_the_engine_heeds():
    settings = QueueSettings()
    heeded = {option.name for option in fields(settings.engine_options())} & QueueSettings.model_fields.keys()
    assert {"prefetch", "publish_timeout"} <= heeded
    assert delivered("model", **{name: getattr(settings, name) for name in heeded}) == 5


@pytest.mark.parametrize("profile", ["activemq-classic", "rabbitmq-stomp"])
@pytest.mark.parametrize("asked", [{}, {"tier": "wire"}])
def test_a_broker_without_a_provider_is_refused_unless_the_model_is_asked_for(profile, asked):
    async def scenario(sim):
        sim.queue(profile, **asked)

    failure = run_once(scenario, options=RunOptions()).failure
    assert isinstance(failure, SettingsError)
    assert str(failure) == (
        f"no provider of factflow_infra is for {profile!r}: a client of your own connects to sim.uri({profile!r}), "
        f"and the test publishes and looks with sim.queue({profile!r}, tier='model')"
    )

    async def with_the_model(sim):
        await sim.queue(profile, tier="model").publish("orders", message("a"))
        assert sim.broker(profile).depth("orders") == 1

    passing(with_the_model)
