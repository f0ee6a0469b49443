"""Which keys there are, the same on every backend (S6).

A key is a relative POSIX-like path: segments joined by ``/``, none of them empty, ``.`` or ``..``. Any other character is
allowed but NUL and lone surrogates, so that a key is always valid UTF-8; at most 1,024 UTF-8 bytes, as on S3. Names that
the providers use for themselves are refused in every segment: what ends in ``.meta.json`` (sidecars) and what begins with
``.factflow`` (locks, temporary files).

Everything raises ``InvalidKeyError``, before any I/O, and names the value. Listings are in UTF-8 byte order, which for
valid text is the order in which Python compares ``str`` (by code point): ``sorted(keys)`` is that order.
"""

from __future__ import annotations

from factflow_infra.errors import InvalidKeyError

MAX_KEY_BYTES = 1024
SIDECAR_SUFFIX = ".meta.json"
RESERVED_PREFIX = ".factflow"

_SHOWN = 120


def validate_key(key: str) -> str:
    """``key`` itself, if every backend can hold it; else ``InvalidKeyError``."""
    _check_text(key, "key")
    if not key:
        raise InvalidKeyError("the storage key is empty: use a relative path such as 'invoices/7.json'")
    for segment in key.split("/"):
        _check_segment(segment, key)
        if is_reserved(segment):
            raise InvalidKeyError(
                f"storage key {shown(key)}: {shown(segment)} is reserved: no segment may end in {SIDECAR_SUFFIX!r} "
                f"or begin with {RESERVED_PREFIX!r}"
            )
    return key


def validate_prefix(prefix: str) -> str:
    """``prefix`` itself, if some valid key could begin with it (``""`` begins them all); else ``InvalidKeyError``."""
    _check_text(prefix, "prefix")
    *finished, _rest = prefix.split("/")
    for segment in finished:
        _check_segment(segment, prefix, "prefix")
    return prefix


def validate_position(after: str | None) -> str | None:
    """The ``after`` of a listing: any text that has a place in the order; else ``InvalidKeyError``."""
    if after is not None:
        _check_text(after, "position", limit=None)
    return after


def is_reserved(segment: str) -> bool:
    """Whether ``segment`` is a name that the providers keep for themselves: no object, and never listed."""
    return segment.endswith(SIDECAR_SUFFIX) or segment.startswith(RESERVED_PREFIX)


def shown(value: object) -> str:
    """``value`` as an error message shows it: its ``repr``, cut where it is long."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _check_text(value: object, what: str, *, limit: int | None = MAX_KEY_BYTES) -> None:
    if not isinstance(value, str):
        raise InvalidKeyError(f"the storage {what} must be a str, not {type(value).__name__}: {shown(value)}")
    if "\0" in value:
        raise InvalidKeyError(f"storage {what} {shown(value)}: NUL is not allowed")
    try:
        size = len(value.encode())
    except UnicodeEncodeError as error:
        raise InvalidKeyError(
            f"storage {what} {shown(value)}: the lone surrogate at character {error.start} has no UTF-8 form"
        ) from error
    if limit is not None and size > limit:
        raise InvalidKeyError(f"storage {what} {shown(value)}: {size} UTF-8 bytes, at most {limit} are allowed")


def _check_segment(segment: str, whole: str, what: str = "key") -> None:
    if not segment:
        raise InvalidKeyError(
            f"storage {what} {shown(whole)}: it has an empty segment; "
            f"no '/' may stand at the beginning{' or the end' if what == 'key' else ''}, nor two together"
        )
    if segment in {".", ".."}:
        raise InvalidKeyError(f"storage {what} {shown(whole)}: the segment {segment!r} is not allowed")
