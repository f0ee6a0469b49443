"""A record of what happened in a run, as a digest: equal digests, equal runs."""

from __future__ import annotations

from hashlib import blake2b


class Trace:
    """Collects ``(virtual time, label)``. ``keep`` holds the lines as well, for finding the first difference."""

    __slots__ = ("_hash", "_lines", "count")

    def __init__(self, *, keep: bool = False) -> None:
        self._hash = blake2b(digest_size=16)
        self._lines: list[str] | None = [] if keep else None
        self.count = 0

    def add(self, when: float, label: str) -> None:
        """Record that ``label`` happened ``when`` virtual seconds into the run."""
        line = f"{when!r} {label}"
        self._hash.update(line.encode("utf-8", "surrogatepass") + b"\n")
        self.count += 1
        if self._lines is not None:
            self._lines.append(line)

    @property
    def lines(self) -> list[str]:
        """What was recorded; empty unless it was asked to ``keep``."""
        return list(self._lines or ())

    def digest(self) -> str:
        """32 hexadecimal digits over everything recorded so far."""
        return self._hash.hexdigest()
