"""``with raises(Kind) as caught:`` as pytest has it, but failing with a plain ``AssertionError``.

What pytest raises there is no ``Exception``: it would tear a simulated run down instead of failing it. So the behaviours
need no pytest, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

Error = TypeVar("Error", bound=BaseException)


class raises(Generic[Error]):  # noqa: N801 - reads as a verb, as the one it stands for
    """Assert that the block raises a ``kind``, whose text holds ``saying``; ``value`` is what was raised."""

    value: Error

    def __init__(self, kind: type[Error], *, saying: str = "") -> None:
        self._kind = kind
        self._saying = saying

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None:
            raise AssertionError(f"{self._kind.__name__} was not raised")
        if not isinstance(error, self._kind):
            return False
        assert self._saying in str(error), f"{self._saying!r} is not in the message: {error}"
        self.value = error
        return True
