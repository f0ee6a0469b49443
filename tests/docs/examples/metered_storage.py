"""A provider of one's own: another one, whose reads and writes are counted. Any class with the methods will do."""

from typing import Any

from factflow_infra.protocols import StorageProtocol


class MeteredStorage:
    def __init__(self, inner: StorageProtocol) -> None:
        self.calls: dict[str, int] = {}
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        self.calls[name] = self.calls.get(name, 0) + 1
        return getattr(self._inner, name)
