"""What botocore knows of its services, read once, and of S3's answers only what a provider looks at.

botocore looks for each header that an answer of the service may have, forty-six of them for a GET. Whoever makes a boto3 client of their
own has all of them.
"""

from __future__ import annotations

from functools import cache
from typing import Any

OUTPUTS = {
    "GetObjectOutput": {"Body", "ContentLength", "ContentRange", "ContentType", "ETag", "LastModified", "Metadata"},
    "HeadObjectOutput": {"ContentLength", "ContentType", "ETag", "LastModified", "Metadata"},
}
"""What is read of an answer."""


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
    """Take from the shapes of S3's answers what no provider reads."""
    for name, wanted in OUTPUTS.items():
        shape = shapes.get(name, {})
        shape["members"] = {member: what for member, what in shape.get("members", {}).items() if member in wanted}
