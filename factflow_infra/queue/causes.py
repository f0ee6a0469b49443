"""Why something ended, in words: what error messages quote of the exception beneath them."""

from __future__ import annotations


def cause_text(error: BaseException | None) -> str:
    """What happened, in one line; errors of client libraries and of the operating system often have no text."""
    if error is None:
        return "the connection was closed"
    return str(error) or type(error).__name__
