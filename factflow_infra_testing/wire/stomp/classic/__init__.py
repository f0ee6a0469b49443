"""ActiveMQ Classic's STOMP: facts AMQ-1 to AMQ-20."""

from factflow_infra_testing.wire.stomp.classic.commands import HANDLERS, error_headers, stranger, unknown
from factflow_infra_testing.wire.stomp.classic.content import message_of
from factflow_infra_testing.wire.stomp.classic.destinations import Destinations
from factflow_infra_testing.wire.stomp.classic.login import ended, log_in, welcome

__all__ = [
    "HANDLERS",
    "Destinations",
    "ended",
    "error_headers",
    "log_in",
    "message_of",
    "stranger",
    "unknown",
    "welcome",
]
