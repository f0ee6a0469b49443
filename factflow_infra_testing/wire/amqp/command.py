"""``factflow-sim serve``: the simulated broker on a real port, for clients in any language."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

import typer

PROFILES: Final = ("rabbitmq", "rabbitmq-quorum", "rabbitmq-classic")
DEFAULT_PORT: Final = 5672


def serve(
    profile: Annotated[str, typer.Option(help=f"Which broker: {', '.join(PROFILES)}.")] = PROFILES[0],
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 takes a free one.")] = DEFAULT_PORT,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    seed: Annotated[
        int | None, typer.Option(help="Have faults happen, at random from this seed; without it there are none.")
    ] = None,
) -> None:
    """Serve a simulated broker on a real port: AMQP 0-9-1, user guest, password guest. Messages are lost when it ends."""
    if profile not in PROFILES:
        raise typer.BadParameter(f"{profile!r} cannot be served; known: {', '.join(PROFILES)}", param_hint="--profile")
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
    from factflow_infra_testing.wire.amqp.serving import serve as start

    decisions = None if seed is None else swarm_decisions(seed, tuple(BROKER_FAULTS.values()))
    async with await start(host, port, profile, decisions=decisions) as server:
        faults = "without faults" if seed is None else f"with faults from seed {seed}"
        typer.echo(
            f"Serving {server.broker.profile.name} {faults} at amqp://guest:guest@{host}:{server.port}/ (Ctrl-C ends it)"
        )
        await server.serve_forever()
