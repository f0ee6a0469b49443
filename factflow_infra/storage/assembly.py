"""Content of a known size that comes in pieces, in any order, and is hashed while the next ones come.

The pieces are copied into the memory that the whole is returned in, so that they are never all held twice.
"""

from __future__ import annotations

import hashlib
from io import BytesIO


class Assembly:
    """``size`` bytes in the making. One thread may ``put`` while another hashes: what was not put yet is not to be hashed."""

    def __init__(self, size: int) -> None:
        # ``BytesIO.getvalue`` gives this very memory away, where a ``bytearray`` would be copied into ``bytes``.
        # And zeros that are asked for as such are given by the operating system piece by piece, when something is put there.
        self._buffer = BytesIO(bytes(size))
        self._digest = hashlib.sha256()
        self.hashed = 0

    # A look at the memory ends with the call: one that an abandoned assembly still had would hinder the collector.

    def put(self, position: int, piece: bytes) -> None:
        with self._buffer.getbuffer() as view:
            view[position : position + len(piece)] = piece

    def hash_to(self, end: int) -> None:
        """Hash what follows what has been hashed, up to before ``end``. Not from two threads at once."""
        with self._buffer.getbuffer() as view, view[self.hashed : end] as part:
            self._digest.update(part)
        self.hashed = end

    def sha256(self) -> str:
        """In hexadecimal, of what has been hashed."""
        return self._digest.hexdigest()

    def take(self) -> bytes:
        """The whole, once nobody puts or hashes any more."""
        return self._buffer.getvalue()
