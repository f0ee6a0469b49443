"""Comparing content: megabytes that differ must be told in a line, not in a runner's diff, which takes minutes."""

from __future__ import annotations


def assert_content(got: bytes, expected: bytes, what: str = "the content") -> None:
    """Raise ``AssertionError`` unless the two are equal, naming the sizes and the first byte that differs."""
    if got == expected:
        return
    at = next((n for n, (one, two) in enumerate(zip(got, expected, strict=False)) if one != two), None)
    where = "one goes on where the other ends" if at is None else f"the first to differ is byte {at}"
    raise AssertionError(f"{what}: {len(got)} bytes instead of {len(expected)}; {where}")
