"""Why something ended, in words: what error messages quote of the exception beneath them."""

from __future__ import annotations

import re
from typing import Final

_CREDENTIALS: Final = re.compile(r"(?<=://)[^\s/?#]+(?=@)")
"""User, password or token before the host of a URI; a password may hold ``@`` where it should not."""


def cause_text(error: BaseException | None) -> str:
    """What happened, in one line; errors of client libraries and of the operating system often have no text."""
    if error is None:
        return "the connection was closed"
    return str(error) or type(error).__name__


def quoted(text: str, most: int) -> str:
    """``text`` in one line of at most ``most`` characters, and without credentials: exceptions like to quote connection strings."""
    text = _CREDENTIALS.sub("***", text)
    text = "".join(c if c.isprintable() else " " for c in text)
    return text if len(text) <= most else text[: most - 1] + "…"
