"""Whether this process is a fork of the one that something was made in: a client's threads and connections stay behind."""

from __future__ import annotations

import os
from typing import Final


class _Process:
    """``forks``: how many forks this process is away from the one that loaded this module."""

    def __init__(self) -> None:
        self.forks = 0

    def forked(self) -> None:
        self.forks += 1


process: Final = _Process()

if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=process.forked)
