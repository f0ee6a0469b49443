"""The boto3 client of a provider."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from factflow_infra.errors import SettingsError
from factflow_infra.storage.minio.failures import veto_blind_retry
from factflow_infra.storage.minio.skew import correct_skew

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from factflow_infra.storage.minio.options import S3Options

LANDING_OPERATIONS = ("PutObject", "CompleteMultipartUpload", "CopyObject", "DeleteObject")
"""The requests that make an object another one."""


def make_client(options: S3Options) -> S3Client:
    """A client with these options. It reads files and may take 0.2 s: not on the event loop."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    config = Config(
        region_name=options.region,
        signature_version="s3v4",
        connect_timeout=options.connect_timeout,
        read_timeout=options.read_timeout,
        max_pool_connections=options.max_concurrency,
        # Not ``adaptive``: it waits on a condition variable, for ever where time is simulated.
        retries={"mode": "standard", "total_max_attempts": options.max_attempts},
        s3={"addressing_style": options.addressing_style},
        # The defaults of boto3 1.36 add checksums that older MinIO servers refuse. Ours are in the record, and the
        # request's own checksum is signed with it.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    region = options.region
    if region is None and options.endpoint_url is not None:
        region = "us-east-1"  # what every S3 server but AWS takes for the signature
    try:
        # Untyped: without the stubs of every service, the overloads of ``client`` are of unknown types.
        session: Any = boto3.session.Session(
            aws_access_key_id=options.access_key,
            aws_secret_access_key=options.secret_key,
            aws_session_token=options.session_token,
            region_name=region,
        )
        client = cast("S3Client", session.client("s3", endpoint_url=options.endpoint_url, config=config))
    except (BotoCoreError, ValueError) as error:
        raise SettingsError(f"no S3 client can be made with these settings: {error}") from error
    prepare(client)
    return client


def prepare(client: S3Client) -> None:
    """What any client needs that a provider uses; a second call changes nothing."""
    guard_retries(client)
    correct_skew(client)


def guard_retries(client: S3Client) -> None:
    """Keep botocore from repeating what may have been carried out; a second call changes nothing."""
    for operation in LANDING_OPERATIONS:
        client.meta.events.register(
            f"needs-retry.s3.{operation}", veto_blind_retry, unique_id=f"factflow-no-blind-retry-{operation}"
        )
