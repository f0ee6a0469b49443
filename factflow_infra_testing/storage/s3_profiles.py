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
    facts=MappingProxyType({}),
)

S3_PROFILES: Final[Mapping[str, S3Profile]] = MappingProxyType({AWS.name: AWS})


def s3_profile(name: str) -> S3Profile:
    """The row called ``name``; ``SettingsError`` lists the known ones."""
    if name not in S3_PROFILES:
        raise SettingsError(f"there is no S3 profile {name!r}; known: {', '.join(map(repr, S3_PROFILES))}")
    return S3_PROFILES[name]
