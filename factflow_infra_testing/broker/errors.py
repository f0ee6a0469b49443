"""What the broker answers to a request that it does not carry out: a code a front end can translate, and a text."""

from __future__ import annotations

from enum import StrEnum


class RefusalCode(StrEnum):
    """Why, in the terms of AMQP 0-9-1, which the other protocols' errors map from."""

    NOT_FOUND = "NOT_FOUND"
    RESOURCE_LOCKED = "RESOURCE_LOCKED"
    PRECONDITION_FAILED = "PRECONDITION_FAILED"
    ACCESS_REFUSED = "ACCESS_REFUSED"
    NOT_IMPLEMENTED = "NOT_IMPLEMENTED"


class RefusedError(Exception):
    """A request that changed nothing. ``code`` is for programs, the message for people."""

    def __init__(self, code: RefusalCode, text: str) -> None:
        super().__init__(f"{code} - {text}")
        self.code = code
        self.text = text
