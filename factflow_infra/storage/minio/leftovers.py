"""Finding and removing what processes that died left behind: unfinished uploads, sidecars that no object names, probes.

None of it is listed or read, but the server keeps it, and charges for it. Times are compared on the server's clock alone.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, cast

from factflow_infra.storage.keys import shown
from factflow_infra.storage.minio.envelope import key_of_sidecar, version_of
from factflow_infra.storage.minio.failures import RequestError, code_of, is_missing_key, translate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from factflow_infra.storage.minio.calls import Calls


def remove(calls: Calls, older_than: float) -> int:
    """Remove what has not changed for ``older_than`` seconds; how many uploads and objects. Blocks."""
    try:
        return _remove_uploads(calls, older_than) + _remove_hidden(calls, older_than)
    except RequestError as error:
        raise translate(error, bucket=calls.bucket, what="removing leftovers") from error


def _remove_uploads(calls: Calls, older_than: float) -> int:
    removed = 0
    client: Any = calls.client
    for answer in client.get_paginator("list_multipart_uploads").paginate(
        Bucket=calls.bucket, Prefix=calls.layout.root
    ):
        limit = _now(answer) - timedelta(seconds=older_than)
        for upload in answer.get("Uploads", ()):
            where = {"Bucket": calls.bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
            try:
                if upload["Initiated"] > limit or _last_part(client, where) > limit:
                    continue
                client.abort_multipart_upload(**where)
            except RequestError as error:
                if code_of(error) != "NoSuchUpload":  # it came to its end meanwhile
                    raise
            else:
                removed += 1
    return removed


def _last_part(client: Any, where: dict[str, str]) -> datetime:
    """When the latest part came: an upload may be old, and still be going on."""
    latest = datetime.fromtimestamp(0, UTC)
    for answer in client.get_paginator("list_parts").paginate(**where):
        latest = max([latest, *(part["LastModified"] for part in answer.get("Parts", ()))])
    return latest


def _remove_hidden(calls: Calls, older_than: float) -> int:
    removed = 0
    for key in _old_hidden(calls, older_than):
        if key.startswith(calls.layout.probe("")) or (
            key.startswith(calls.layout.sidecar("")) and _is_orphan(calls, key)
        ):
            calls.client.delete_object(Bucket=calls.bucket, Key=key)
            removed += 1
    return removed


def _old_hidden(calls: Calls, older_than: float) -> Iterator[str]:
    client: Any = calls.client
    for answer in client.get_paginator("list_objects_v2").paginate(Bucket=calls.bucket, Prefix=calls.layout.hidden):
        limit = _now(answer) - timedelta(seconds=older_than)
        for entry in answer.get("Contents", ()):
            if entry["LastModified"] <= limit:
                yield entry["Key"]


def _is_orphan(calls: Calls, sidecar: str) -> bool:
    """Whether the object that the sidecar was put for names another one by now, or is gone.

    Each write has an id of its own, and names its sidecar by it: what does not name it now never will.
    """
    head = _head(calls, sidecar)
    key = None if head is None else key_of_sidecar(head)
    if head is None or key is None:
        return False  # gone, or of a version that did not tell the key
    found = _head(calls, key)
    return found is None or version_of(shown(key), found).write_id != sidecar.rpartition("/")[2]


def _head(calls: Calls, key: str) -> Mapping[str, Any] | None:
    try:
        return cast("Mapping[str, Any]", calls.client.head_object(Bucket=calls.bucket, Key=key))
    except RequestError as error:
        if is_missing_key(error):
            return None
        raise


def _now(answer: Mapping[str, Any]) -> datetime:
    """The server's clock, as far as it tells."""
    try:
        return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
    except (KeyError, ValueError, TypeError):
        return datetime.fromtimestamp(time.time(), UTC)
