"""How an object's record travels with it.

A record (size, checksum, times, content type, metadata) is JSON in ASCII. Where it fits, it is object metadata, and
switches with the object because it is part of it. Where it is too long, or not known yet when the upload begins (the
checksum of a stream), it is a sidecar object under the id of the write: written before the object, never changed, and
found through the write id in the object's metadata. So here, too, the object's own switch is the one switch there is.
A sidecar whose write did not come to pass is named by nobody, and hidden.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from factflow_infra.errors import CorruptObjectError
from factflow_infra.storage.keys import shown
from factflow_infra.storage.metadata import DEFAULT_CONTENT_TYPE, Record
from factflow_infra.storage.objects import ObjectInfo

if TYPE_CHECKING:
    from collections.abc import Mapping

WRITE = "factflow-write"
"""The id of the write; unique to each attempt that may have landed."""
RECORD = "factflow-record"
CHECK = "factflow-check"
"""CRC-32 of the record's text: object metadata is under no checksum of S3's."""
SIDECAR = "factflow-sidecar"
"""How many characters of the object's S3 key are the writer's prefix, below which the sidecar is: a reader may have
another one."""
KEY = "factflow-key"
"""Of a sidecar: the object it is for, so that one that is no longer needed can be told."""

MAX_SIDECAR_BYTES = 8 * 1024 * 1024
"""More than the longest record takes: what metadata of 1 MiB has of spaces takes six times as much there."""
MAX_INLINE = 1800
"""Characters of a record in object metadata: S3 allows 2,048 bytes for all names and values together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """What HEAD or GET said of one version of an object. ``record`` is ``None`` where it must be fetched, or is not ours."""

    etag: str
    size: int
    content_type: str
    last_modified: datetime
    write_id: str | None
    sidecar_root: int | None
    record: Record | None
    damage: CorruptObjectError | None
    """Why the record cannot be read. Reading raises it; overwriting and deleting do not mind."""
    foreign: Mapping[str, str]

    @property
    def has_sidecar(self) -> bool:
        return self.sidecar_root is not None

    def same_as(self, other: Version | None) -> bool:
        """Whether the key still holds what it held."""
        if other is None:
            return False
        mine, theirs = (self.write_id, self.etag, self.last_modified), (other.write_id, other.etag, other.last_modified)
        return mine == theirs

    def info(self, key: str, record: Record | None) -> ObjectInfo:
        """``record`` is ``None`` for an object that something else has put there: its checksum is not known then."""
        if record is None:
            return ObjectInfo(
                key=key,
                size=self.size,
                content_type=self.content_type,
                etag=self.etag,
                checksum="",
                created_at=self.last_modified,
                modified_at=self.last_modified,
                metadata=dict(self.foreign),
            )
        return info_of(key, record, self.etag)


def info_of(key: str, record: Record, etag: str) -> ObjectInfo:
    return ObjectInfo(
        key=key,
        size=record.size,
        content_type=record.content_type,
        etag=etag,
        checksum=record.checksum,
        created_at=record.created_at,
        modified_at=record.modified_at,
        metadata=record.metadata,
    )


def record_text(record: Record) -> str:
    """ASCII without runs of spaces: servers fold those when they check the signature of a header."""
    fields = record.as_json()
    for hint in ("inode", "mtime_ns"):
        del fields[hint]
    text = json.dumps(fields, separators=(",", ":"))
    return re.sub("  +", lambda run: "\\u0020" * len(run[0]), text)


def inline_metadata(write_id: str, text: str) -> dict[str, str]:
    return {WRITE: write_id, RECORD: text, CHECK: _crc(text)}


def referring_metadata(write_id: str, root: str) -> dict[str, str]:
    """Object metadata that says: the record is the sidecar of this write, below ``root``."""
    return {WRITE: write_id, SIDECAR: str(len(root))}


def sidecar_metadata(body: bytes, key: str) -> dict[str, str]:
    """``key``: the S3 key of the object that the sidecar is for; one that metadata cannot hold is left out."""
    quoted = quote(key, safe="/")
    return {CHECK: hashlib.sha256(body).hexdigest()} | ({KEY: quoted} if len(quoted) <= MAX_INLINE else {})


def key_of_sidecar(response: Mapping[str, Any]) -> str | None:
    """The S3 key of the object that a sidecar was put for, out of a HEAD answer; ``None`` where it does not tell."""
    quoted = {name.lower(): value for name, value in response["Metadata"].items()}.get(KEY)
    return None if quoted is None else unquote(quoted)


def version_of(key: str, response: Mapping[str, Any]) -> Version:
    """Read a HEAD or GET answer."""
    # MinIO answers with capitals in the names.
    fields = {name.lower(): value for name, value in response["Metadata"].items()}
    write_id = fields.pop(WRITE, None)
    text = fields.pop(RECORD, None)
    check = fields.pop(CHECK, None)
    reference = fields.pop(SIDECAR, None)
    record, damage = None, None
    if text is not None and check != _crc(text):
        damage = CorruptObjectError(f"object {shown(key)}: its metadata does not match its checksum")
    elif text is not None:
        try:
            record = _parse(key, text)
        except CorruptObjectError as error:
            damage = error
    elif reference is not None and (write_id is None or not re.fullmatch("[0-9]{1,4}", reference)):
        damage = CorruptObjectError(f"object {shown(key)}: the name of the sidecar with its metadata is damaged")
    size = int(response["ContentLength"])
    if "ContentRange" in response:
        size = int(response["ContentRange"].rpartition("/")[2])
    return Version(
        etag=str(response["ETag"]).strip('"'),
        size=size,
        content_type=response.get("ContentType") or DEFAULT_CONTENT_TYPE,
        last_modified=response.get("LastModified") or datetime.fromtimestamp(0, UTC),
        write_id=write_id,
        sidecar_root=int(reference) if reference is not None and damage is None else None,
        record=record,
        damage=damage,
        foreign=fields,
    )


def record_of_sidecar(key: str, response: Mapping[str, Any], body: bytes) -> Record:
    """The record in a sidecar's ``body``, which nobody needs to have read where it is too long."""
    if (length := response["ContentLength"]) > MAX_SIDECAR_BYTES:
        raise CorruptObjectError(
            f"object {shown(key)}: the sidecar with its metadata has {length} bytes, more than any has, and was not read"
        )
    fields = {name.lower(): value for name, value in response["Metadata"].items()}
    if fields.get(CHECK) != hashlib.sha256(body).hexdigest():
        raise CorruptObjectError(f"object {shown(key)}: the sidecar with its metadata does not match its checksum")
    return _parse(key, body)


def _parse(key: str, text: str | bytes) -> Record:
    try:
        fields = json.loads(text)
        return Record.from_json({"inode": 0, "mtime_ns": 0, **fields})
    except (ValueError, TypeError, RecursionError) as error:
        raise CorruptObjectError(f"object {shown(key)}: its metadata cannot be read: {error}") from error


def _crc(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"
