"""The filesystem storage provider: objects as plain files below a folder, each with a JSON sidecar."""

from factflow_infra.storage.filesystem.provider import FilesystemStorageProvider

__all__ = ["FilesystemStorageProvider"]
