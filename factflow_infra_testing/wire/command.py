"""``factflow-sim serve``: the simulated broker on a real port, for clients in any language."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

import typer

from factflow_infra_testing.wire.protocols import PROTOCOLS, protocol_of

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
) -> None:
    """Serve a simulated broker on a real port: RabbitMQ by AMQP 0-9-1, or as its STOMP plugin (rabbitmq-stomp), user and
    password guest; by STOMP 1.2 Artemis, user and password artemis, and ActiveMQ Classic, user and password admin; Pulsar by
    its binary protocol. Messages are lost when it ends.
    """
    if profile not in PROFILES:
        raise typer.BadParameter(f"{profile!r} cannot be served; known: {', '.join(PROFILES)}", param_hint="--profile")
    port = protocol_of(profile).port if port is None else port
    try:
        asyncio.run(_serve(profile, host, port, seed))
    except KeyboardInterrupt:
        typer.echo("Ended.")
    except OSError as error:
        typer.echo(f"Cannot listen on {host}:{port}: {error.strerror or error}", err=True)
        raise typer.Exit(1) from None


async def _serve(profile: str, host: str, port: int, seed: int | None) -> None:
    from factflow_infra_testing.broker.faults import BROKER_FAULTS
    from factflow_infra_testing.search.swarm import swarm_decisions
    from factflow_infra_testing.wire.serving import serve as start

    decisions = None if seed is None else swarm_decisions(seed, tuple(BROKER_FAULTS.values()))
    async with await start(host, port, profile, decisions=decisions) as server:
        faults = "without faults" if seed is None else f"with faults from seed {seed}"
        typer.echo(
            f"Serving {server.broker.profile.name} {faults} at {protocol_of(profile).uri(host, server.port)} (Ctrl-C ends it)"
        )
        await server.serve_forever()
