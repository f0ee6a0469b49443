"""Queue and storage providers for asyncio services, behind two protocols (``factflow_infra.protocols``).

``create_queue_provider`` and ``create_storage_provider`` make a provider of a URI or of settings. Client libraries load on
first use, so importing the package costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from factflow_infra.queue.factory import create_queue_provider
    from factflow_infra.storage.factory import create_storage_provider

__all__ = ["create_queue_provider", "create_storage_provider"]


def __getattr__(name: str) -> object:
    if name == "create_queue_provider":
        from factflow_infra.queue.factory import create_queue_provider

        return create_queue_provider
    if name == "create_storage_provider":
        from factflow_infra.storage.factory import create_storage_provider

        return create_storage_provider
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
