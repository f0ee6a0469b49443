"""Where S3 servers differ, as data. Every value cites a fact of ``docs/facts.md``."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from factflow_infra.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

QUOTED: Final = "quoted or bare"
BARE: Final = "bare only"
IGNORED: Final = "ignored"


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Profile:
    """One kind of server. Conditions are ``QUOTED`` (honoured, etags with and without quotes), ``BARE`` (honoured, and an
    etag in quotes never matches) or ``IGNORED``; of ``If-None-Match: *``, ``QUOTED`` or ``IGNORED``.

    ``missing_match``: the status of a write with If-Match on a key that does not exist; 0: it is carried out.
    ``conflicts``: a conditional write may meet 409. ``checks_md5``, ``checks_checksums``: a wrong Content-MD5 or
    ``x-amz-checksum-*`` is refused. ``long_key``: the error code of a key above 1,024 bytes. ``etag_of_complete``: whether
    completing an upload tells the etag. ``capital_metadata``: names of metadata come back with capitals.
    """

    name: str
    put_absent: str
    put_match: str
    complete_absent: str
    complete_match: str
    delete_match: str
    copy_match: str
    missing_match: int
    conflicts: bool
    checks_md5: bool
    checks_checksums: bool
    long_key: str
    etag_of_complete: bool
    capital_metadata: bool
    facts: Mapping[str, str]
    """The fact that each value stands on, by field."""


AWS: Final = S3Profile(
    name="aws",
    put_absent=QUOTED,
    put_match=QUOTED,
    complete_absent=QUOTED,
    complete_match=QUOTED,
    delete_match=QUOTED,
    copy_match=QUOTED,
    missing_match=404,
    conflicts=True,
    checks_md5=True,
    checks_checksums=True,
    long_key="KeyTooLongError",
    etag_of_complete=True,
    capital_metadata=False,
    facts=MappingProxyType(
        {
            "put_absent": "S3-1",
            "put_match": "S3-1",
            "complete_absent": "S3-1",
            "complete_match": "S3-1",
            "delete_match": "S3-1",
            "copy_match": "S3-1",
            "missing_match": "S3-2",
            "conflicts": "S3-2",
            "checks_md5": "S3-3",
            "checks_checksums": "S3-3",
            "long_key": "S3-4",
            "etag_of_complete": "S3-4",
            "capital_metadata": "S3-4",
        }
    ),
)

MINIO: Final = S3Profile(
    name="minio",
    put_absent=QUOTED,
    put_match=QUOTED,
    complete_absent=QUOTED,
    complete_match=QUOTED,
    delete_match=IGNORED,
    copy_match=QUOTED,
    missing_match=0,
    conflicts=False,
    checks_md5=True,
    checks_checksums=True,
    long_key="KeyTooLongError",
    etag_of_complete=True,
    capital_metadata=True,
    facts=MappingProxyType(
        {
            "put_absent": "S3-10",
            "put_match": "S3-10",
            "complete_absent": "S3-10",
            "complete_match": "S3-10",
            "delete_match": "S3-11",
            "copy_match": "S3-10",
            "missing_match": "S3-12",
            "conflicts": "S3-11",
            "checks_md5": "S3-13",
            "checks_checksums": "S3-13",
            "long_key": "S3-13",
            "etag_of_complete": "S3-13",
            "capital_metadata": "S3-14",
        }
    ),
)

RADOSGW: Final = S3Profile(
    name="radosgw",
    put_absent=QUOTED,
    put_match=BARE,
    complete_absent=IGNORED,
    complete_match=IGNORED,
    delete_match=IGNORED,
    copy_match=IGNORED,
    missing_match=412,
    conflicts=False,
    checks_md5=True,
    checks_checksums=False,
    long_key="InvalidObjectName",
    etag_of_complete=False,
    capital_metadata=False,
    facts=MappingProxyType(
        {
            "put_absent": "S3-20",
            "put_match": "S3-21",
            "complete_absent": "S3-22",
            "complete_match": "S3-22",
            "delete_match": "S3-23",
            "copy_match": "S3-24",
            "missing_match": "S3-21",
            "conflicts": "S3-20",
            "checks_md5": "S3-25",
            "checks_checksums": "S3-26",
            "long_key": "S3-27",
            "etag_of_complete": "S3-28",
            "capital_metadata": "S3-28",
        }
    ),
)

S3_PROFILES: Final[Mapping[str, S3Profile]] = MappingProxyType({row.name: row for row in (AWS, MINIO, RADOSGW)})


def s3_profile(name: str) -> S3Profile:
    """The row called ``name``; ``SettingsError`` lists the known ones."""
    if name not in S3_PROFILES:
        raise SettingsError(f"there is no S3 profile {name!r}; known: {', '.join(map(repr, S3_PROFILES))}")
    return S3_PROFILES[name]
