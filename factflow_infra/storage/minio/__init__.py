"""Objects on S3, MinIO and what speaks their protocol."""

from __future__ import annotations

from factflow_infra.storage.minio.options import S3Options
from factflow_infra.storage.minio.provider import MinioStorageProvider

__all__ = ["MinioStorageProvider", "S3Options"]
