"""Which S3 server answers what: ``python tests/benchmarks/s3_table.py`` asks a throw-away radosgw, and prints the table of docs/facts.md.

The columns of AWS and MinIO are what they document, as the simulation has it. The last column is what bare moto answers.
"""

from __future__ import annotations

import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import boto3
from botocore.config import Config

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS / "live" / "servers"), str(TESTS / "storage")]

import radosgw  # noqa: E402 - the path is set above
import s3_answers  # noqa: E402


def asked(endpoint: str | None, access_key: str, secret_key: str) -> dict[str, str]:
    def client(aws_access_key_id: str = access_key, aws_secret_access_key: str = secret_key):
        return boto3.client(
            "s3",
            endpoint_url=endpoint,
            aws_access_key_id=aws_access_key_id,
            aws_secret_access_key=aws_secret_access_key,
            region_name="us-east-1",
            config=Config(
                signature_version="s3v4",
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    client().create_bucket(Bucket="facts")
    return s3_answers.ask_all(s3_answers.Asker(client(), "facts", client))


def main() -> int:
    missing = radosgw.missing()
    if missing is not None:
        print(missing)
        return 2
    from moto import mock_aws

    with tempfile.TemporaryDirectory() as folder, radosgw.Radosgw(Path(folder)) as server:
        real = asked(server.endpoint, radosgw.ACCESS_KEY, radosgw.SECRET_KEY)
    with mock_aws():
        moto = asked(None, "a", "b")
    answers = s3_answers.ANSWERS
    print(f"Asked on {datetime.now(UTC):%d %B %Y}; radosgw 16.2.15, moto 5.2.5.\n")
    print(
        "| request | AWS (documented) | MinIO (documented) | radosgw (asked) | bare moto (asked) |\n|---|---|---|---|---|"
    )
    for name in s3_answers.QUESTIONS:
        print(f"| {name} | {answers['aws'][name]} | {answers['minio'][name]} | {real[name]} | {moto[name]} |")
    return 0 if real == answers["radosgw"] else 1


if __name__ == "__main__":
    sys.exit(main())
