"""The boto3 client of a provider."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, cast

from factflow_infra.errors import SettingsError
from factflow_infra.storage.minio.descriptions import descriptions
from factflow_infra.storage.minio.failures import veto_blind_retry
from factflow_infra.storage.minio.signing import Content, sign_our_way

if TYPE_CHECKING:
    from datetime import datetime

    from mypy_boto3_s3 import S3Client

    from factflow_infra.storage.minio.options import S3Options

LANDING_OPERATIONS = ("PutObject", "CompleteMultipartUpload", "CopyObject", "DeleteObject")
"""The requests that make an object another one."""
EXPECT_FROM = 1024 * 1024
"""Longer bodies wait for the server's "100 Continue", so that a refusal comes before they are sent. It costs a round trip, and AWS'
other SDKs draw the line here too; botocore has it for every body."""


def make_client(options: S3Options) -> S3Client:
    """A client with these options. It reads files and may take 0.2 s: not on the event loop."""
    import boto3
    import botocore.session
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
        # botocore puts a longer one together anew for each request, twice: 7 % of the time that it takes.
        user_agent="factflow-infra",
        # Whether arguments are of the types that S3 knows. They come from this package, which has validated its own.
        parameter_validation=False,
    )
    region = options.region
    if region is None and options.endpoint_url is not None:
        region = "us-east-1"  # what every S3 server but AWS takes for the signature
    try:
        # Untyped: without the stubs of every service, the overloads of ``client`` are of unknown types.
        core: Any = botocore.session.get_session()
        core.register_component("data_loader", descriptions(core.get_config_variable("data_path")))
        core.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=parse_time)
        session: Any = boto3.session.Session(
            botocore_session=core,
            aws_access_key_id=options.access_key,
            aws_secret_access_key=options.secret_key,
            aws_session_token=options.session_token,
            region_name=region,
        )
        client = cast("S3Client", session.client("s3", endpoint_url=options.endpoint_url, config=config))
    except (BotoCoreError, ValueError) as error:
        raise SettingsError(f"no S3 client can be made with these settings: {error}") from error
    prepare(client)
    spare_headers(client)
    return client


def prepare(client: S3Client) -> None:
    """What any client needs that a provider uses; a second call changes nothing."""
    guard_retries(client)
    sign_our_way(client)
    spare_round_trips(client)


def parse_time(value: Any) -> datetime:
    """As botocore's, which tries every way of writing a date: the one of HTTP's headers first."""
    from botocore.parsers import DEFAULT_TIMESTAMP_PARSER

    try:
        found = parsedate_to_datetime(value)
    except (TypeError, ValueError, AttributeError):
        return DEFAULT_TIMESTAMP_PARSER(value)
    return found if found.tzinfo is not None else DEFAULT_TIMESTAMP_PARSER(value)


def spare_round_trips(client: S3Client) -> None:
    """Have only long bodies wait for the server's consent; a second call changes nothing."""
    client.meta.events.register_last("before-call.s3", _send_at_once, unique_id="factflow-send-at-once")


def _send_at_once(params: dict[str, Any], **_: object) -> None:
    body = params.get("body")
    if isinstance(body, Content) and len(body.content) <= EXPECT_FROM:
        params["headers"].pop("Expect", None)


def spare_headers(client: S3Client) -> None:
    """Send no headers that only tell AWS of attempts, and have the others in a dictionary that is cheap to copy.

    Each header is copied several times on its way, and signed; botocore's own class looks it up anew for each copy.
    """
    from botocore.handlers import add_retry_headers

    events = cast("Any", client.meta.events)
    events.unregister("request-created", add_retry_headers)
    events.register_last("before-send.s3", _plain_headers)  # whoever else looks at a request gets what botocore gives


def _plain_headers(request: Any, **_: object) -> None:
    request.headers = dict(request.headers.items())


def guard_retries(client: S3Client) -> None:
    """Keep botocore from repeating what may have been carried out; a second call changes nothing."""
    for operation in LANDING_OPERATIONS:
        client.meta.events.register(
            f"needs-retry.s3.{operation}", veto_blind_retry, unique_id=f"factflow-no-blind-retry-{operation}"
        )
