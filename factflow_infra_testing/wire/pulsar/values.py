"""Numbers that fields of Pulsar's commands hold: errors, types of subscription, positions, kinds of ack."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

PROTOCOL_VERSION: Final = 19


class ServerError(IntEnum):
    """Why the broker refuses, as its clients know it."""

    UNKNOWN = 0
    METADATA = 1
    PERSISTENCE = 2
    AUTHENTICATION = 3
    AUTHORIZATION = 4
    CONSUMER_BUSY = 5
    SERVICE_NOT_READY = 6
    CHECKSUM = 9
    UNSUPPORTED_VERSION = 10
    TOPIC_NOT_FOUND = 11
    SUBSCRIPTION_NOT_FOUND = 12
    CONSUMER_NOT_FOUND = 13
    PRODUCER_BUSY = 16
    INVALID_TOPIC_NAME = 17
    INCOMPATIBLE_SCHEMA = 18
    CONSUMER_ASSIGN = 19
    NOT_ALLOWED = 22


class SubscriptionType(IntEnum):
    EXCLUSIVE = 0
    SHARED = 1
    FAILOVER = 2
    KEY_SHARED = 3


LATEST, EARLIEST = 0, 1
"""Initial positions of a subscription."""
INDIVIDUAL, CUMULATIVE = 0, 1
"""Kinds of ack."""
LOOKUP_CONNECT, LOOKUP_FAILED = 1, 2
METADATA_SUCCESS, METADATA_FAILED = 0, 1
