"""What the plugin says of mistakes. Its own mistakes leave the session open; those of the AMQP channel behind it end it. Fact RST-6."""

from __future__ import annotations

from factflow_infra_testing.wire.stomp.errors import StompError


def mistake(message: str, details: str) -> StompError:
    """What a client is told that may go on."""
    return StompError(message, details, closes=False)


def processing_error() -> StompError:
    """What is told of a value that cannot be read."""
    return mistake("Processing error", "Processing error")


def missing(command: str, header: str) -> StompError:
    """A header that there must be."""
    return mistake(f"Missing {header}", f"\"{command}\" must include a '{header}' header\n")


def channel_error(code: str, text: str) -> StompError:
    """The channel is closed, and the connection with it."""
    return StompError(code.lower(), f"{code} - {text}")
