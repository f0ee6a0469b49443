"""What botocore knows of its services, read once, and of S3 only what a provider looks at.

botocore reads each header of an answer that a service may send, forty-six for a GET, and chooses the endpoint of a request by rules
which it evaluates anew for each key, although none of S3's asks for it. Together that is a sixth of what a GET costs, so the
description that our clients get has neither. Whoever makes a boto3 client of their own has botocore's.
"""

from __future__ import annotations

from functools import cache
from typing import Any

OUTPUTS = {
    "GetObjectOutput": {"Body", "ContentLength", "ContentRange", "ContentType", "ETag", "LastModified", "Metadata"},
    "HeadObjectOutput": {"ContentLength", "ContentType", "ETag", "LastModified", "Metadata"},
}
"""What is read of an answer."""
NOT_ASKED_FOR = {"Key", "Prefix", "CopySource"}
"""Parameters that AWS' rules for the endpoint are given, and do not use (botocore, ``endpoint-rule-set-1``)."""


@cache
def descriptions(data_path: str | None) -> Any:
    """A botocore loader, for clients of S3: reading what it loads is most of what a client costs.

    ``data_path``: where else to look, as botocore is configured.
    """
    from botocore.loaders import create_loader

    loader: Any = create_loader(data_path)
    # The loader gives the same description each time, and nobody else has this loader.
    cut(loader.load_service_model("s3", "service-2", api_version=None)["shapes"])
    return loader


def cut(shapes: dict[str, Any]) -> None:
    """Take from S3's shapes what no provider looks at: output that is not read, and parameters that the endpoint does not hang on."""
    for name, wanted in OUTPUTS.items():
        shape = shapes.get(name, {})
        shape["members"] = {member: what for member, what in shape.get("members", {}).items() if member in wanted}
    for shape in shapes.values():
        for member in shape.get("members", {}).values():
            if member.get("contextParam", {}).get("name") in NOT_ASKED_FOR:
                del member["contextParam"]
