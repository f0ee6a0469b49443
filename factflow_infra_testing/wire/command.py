"""``factflow-sim serve``: the simulated broker on a real port, for clients in any language."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Final

import typer

from factflow_infra_testing.broker.events import FAULT
from factflow_infra_testing.search.decisions import SwarmDecisions
from factflow_infra_testing.search.swarm import swarm_decisions
from factflow_infra_testing.wire.protocols import PROTOCOLS, protocol_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from factflow_infra_testing.broker.events import BrokerEvent
    from factflow_infra_testing.broker.server import SimulatedBroker

PROFILES: Final = ("rabbitmq", *sorted(PROTOCOLS))


def serve(
    profile: Annotated[str, typer.Option(help=f"Which broker: {', '.join(PROFILES)}.")] = PROFILES[0],
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65_535, help="The protocol's usual one unless given; 0 takes a free one."),
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    seed: Annotated[
        int | None, typer.Option(help="Have faults happen, at random from this seed; without it there are none.")
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this kind of fault, at its usual rate; may be given several times. The seed is 0 unless given."
        ),
    ] = None,
) -> None:
    """Serve a simulated broker on a real port: RabbitMQ by AMQP 0-9-1, or as its STOMP plugin (rabbitmq-stomp), user and
    password guest; by STOMP 1.0 to 1.2 Artemis, user and password artemis, and ActiveMQ Classic, user and password admin; Pulsar by
    its binary protocol. Messages are lost when it ends. Each fault is printed when it strikes.
    """
    if profile not in PROFILES:
        raise typer.BadParameter(f"{profile!r} cannot be served; known: {', '.join(PROFILES)}", param_hint="--profile")
    port = protocol_of(profile).port if port is None else port
    decisions = _decisions(seed, fault or [], profile)
    try:
        asyncio.run(_serve(profile, host, port, decisions))
    except KeyboardInterrupt:
        typer.echo("Ended.")
    except OSError as error:
        typer.echo(f"Cannot listen on {host}:{port}: {error.strerror or error}", err=True)
        raise typer.Exit(1) from None


def _decisions(seed: int | None, kinds: list[str], profile: str) -> SwarmDecisions | None:
    from factflow_infra_testing.broker.faults import BROKER_FAULTS, faults_of
    from factflow_infra_testing.broker.profiles import profile_named

    known = faults_of(profile_named(profile))
    if wrong := [kind for kind in kinds if kind not in known]:
        raise typer.BadParameter(f"{wrong[0]!r} cannot strike here; known: {', '.join(known)}", param_hint="--fault")
    if kinds:
        return SwarmDecisions(seed or 0, {kind: BROKER_FAULTS[kind].rate for kind in kinds})
    return None if seed is None else swarm_decisions(seed, tuple(BROKER_FAULTS.values()))


def announce(broker: SimulatedBroker, decisions: SwarmDecisions, tell: Callable[[str], None]) -> None:
    """Have ``tell`` called with a line for each fault that strikes ``broker``: when, which, on what, and whom."""
    from factflow_infra_testing.broker.faults import BROKER_FAULTS

    begun = broker.loop.time()

    def struck(event: BrokerEvent) -> None:
        if event.kind != FAULT:
            return
        last = decisions.deviations[-1] if decisions.deviations else None
        known = last is not None and last.kind == event.reason
        what = BROKER_FAULTS[last.kind].describe(last.choice) if known and last is not None else event.reason
        on = f" on {event.queue}" if event.queue else ""
        whom = f" ({event.client})" if event.client else ""
        tell(f"{event.time - begun:10.3f} s  {what}{on}{f' {event.key}' if event.key else ''}{whom}")

    broker.observe(struck)


async def _serve(profile: str, host: str, port: int, decisions: SwarmDecisions | None) -> None:
    from factflow_infra_testing.broker.faults import faults_of
    from factflow_infra_testing.wire.serving import serve as start

    async with await start(host, port, profile, decisions=decisions) as server:
        faults = "without faults"
        if decisions is not None:
            announce(server.broker, decisions, typer.echo)
            kinds = [kind for kind in faults_of(server.broker.profile) if kind in decisions.kinds]
            faults = f"with these faults: {', '.join(kinds) or 'none that strike here'}"
        typer.echo(
            f"Serving {server.broker.profile.name} {faults}, at {protocol_of(profile).uri(host, server.port)} (Ctrl-C ends it)"
        )
        await server.serve_forever()
