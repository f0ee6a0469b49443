"""Which S3 keys a provider uses: the objects below its prefix, and hidden ones for itself.

Hidden keys stand below ``<prefix>.factflow/``, a name that ``validate_key`` refuses to everyone else. They are named by a
unique id and not by the object's key, because an S3 key may be 1,024 bytes long and no longer.
"""

from __future__ import annotations

from dataclasses import dataclass

from factflow_infra.errors import InvalidKeyError, SettingsError
from factflow_infra.storage.keys import (
    MAX_KEY_BYTES,
    RESERVED_PREFIX,
    is_reserved,
    shown,
    validate_key,
)
from factflow_infra.storage.minio.options import validate_bucket


@dataclass(frozen=True, slots=True)
class Layout:
    """A bucket and the part of it that a provider sees. ``root`` is empty, or ends in ``/``."""

    bucket: str
    root: str

    @classmethod
    def of(cls, bucket: str, prefix: str) -> Layout:
        """Check both names; a ``/`` around ``prefix`` is no difference. Raises ``SettingsError``."""
        inner = prefix.strip("/")
        if inner:
            try:
                validate_key(inner)
            except InvalidKeyError as error:
                raise SettingsError(f"the prefix in the bucket cannot be used: {error}") from error
        return cls(validate_bucket(bucket), f"{inner}/" if inner else "")

    def object(self, key: str) -> str:
        """The S3 key of ``key``, which is checked; ``InvalidKeyError`` where it, or both together, are no S3 key."""
        full = self.root + validate_key(key)
        if len(full.encode()) > MAX_KEY_BYTES:
            raise InvalidKeyError(
                f"storage key {shown(key)} with the provider's prefix {self.root!r} is longer than {MAX_KEY_BYTES} "
                "UTF-8 bytes: use a shorter key or prefix"
            )
        return full

    def sidecar(self, write_id: str) -> str:
        """Where the record of one write goes that outgrows object metadata."""
        return _sidecar(self.root, write_id)

    def sidecar_of(self, key: str, root: int, write_id: str) -> str:
        """Where the writer of ``key``, whose prefix was ``root`` characters of it, has put it."""
        return _sidecar(self.object(key)[:root], write_id)

    def probe(self, probe_id: str) -> str:
        """A key for finding out what the server honours."""
        return f"{self.hidden}probe/{probe_id}"

    @property
    def hidden(self) -> str:
        return f"{self.root}{RESERVED_PREFIX}/"

    def past_hidden(self, full: str) -> str | None:
        """If ``full`` is in a hidden folder (ours, or of a provider with a longer prefix), a position behind all of it.

        ``0`` comes after ``/``, and what lies between is reserved too.
        """
        *folders, _ = self.inner(full).split("/")
        if RESERVED_PREFIX not in folders:
            return None
        outer = folders[: folders.index(RESERVED_PREFIX)]
        return self.root + "/".join([*outer, f"{RESERVED_PREFIX}0"])

    def inner(self, full: str) -> str:
        return full[len(self.root) :]

    @staticmethod
    def is_listed(key: str) -> bool:
        """Whether a listing shows the key: not what is hidden, nor what no call here could name (folder markers)."""
        try:
            validate_key(key)
        except InvalidKeyError:
            return False
        return True

    @staticmethod
    def is_listed_prefix(prefix: str) -> bool:
        """The same for a common prefix."""
        *finished, rest = prefix.split("/")
        return all(segment and segment not in {".", ".."} and not is_reserved(segment) for segment in finished) and (
            not rest.startswith(RESERVED_PREFIX)
        )


def _sidecar(root: str, write_id: str) -> str:
    return f"{root}{RESERVED_PREFIX}/metadata/{write_id}"
