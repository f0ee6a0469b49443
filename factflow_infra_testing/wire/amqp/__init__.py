"""AMQP 0-9-1 over the simulated broker: RabbitMQ's clients connect to it unchanged, in a simulation or on real sockets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from factflow_infra_testing.wire.amqp.frontend import EXPOSED_PORT, PORT, AmqpFrontEnd

__all__ = ["EXPOSED_PORT", "PORT", "AmqpFrontEnd"]


def __getattr__(name: str) -> Any:
    """Loaded on first use: pamqp comes with it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from factflow_infra_testing.wire.amqp import frontend

    return getattr(frontend, name)
