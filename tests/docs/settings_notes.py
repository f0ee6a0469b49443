"""What each setting is, in words: the unit (or nothing) and one line. A setting without a note fails ``test_pages.py``."""

from factflow_infra.storage.factory import _FILE_PARAMETERS, _S3_PARAMETERS

QUEUE = {
    "uri": ("", "the broker, or several to be tried in turn, with commas; see the forms above"),
    "username": (
        "",
        "here or in the URI; where it is not set, RabbitMQ is asked with `guest`, Artemis without a login; Pulsar has none",
    ),
    "password": ("", "as `username`; on Pulsar a token; never shown in errors, logs or reprs"),
    "tls_ca_file": ("path", "certificates to trust instead of the system's"),
    "tls_cert_file": ("path", "the client's own certificate; goes with `tls_key_file`"),
    "tls_key_file": ("path", "its key"),
    "tls_verify": ("", "`false` accepts any certificate"),
    "queue_type": ("", "which type of queue is declared on RabbitMQ"),
    "subscription_type": (
        "",
        "how consumers share a queue on Pulsar, the same for all of them; `key_shared` keeps the order of each key across processes",
    ),
    "prefetch": (
        "messages",
        "held at most by a subscription that does not say otherwise; never fewer than its `concurrency`",
    ),
    "reconnect_base": (
        "seconds",
        "the first pause before an attempt to reconnect, doubled at each further one, with jitter",
    ),
    "reconnect_cap": ("seconds", "the longest such pause; at least `reconnect_base`"),
    "connect_timeout": ("seconds", "for the connection with its login, shared among several URIs"),
    "publish_timeout": ("seconds", "for the broker's confirm; past it `PublishUnconfirmedError`"),
    "max_message_bytes": ("bytes", "body, headers and ids of one message together"),
    "heartbeat": (
        "seconds",
        "`0` turns it off; at most 65,534 on AMQP, where fractions are rounded up; on STOMP two silent ones end the connection",
    ),
}

STORAGE = {
    "uri": ("", "where the objects are; see the forms above"),
    "endpoint": ("", "S3: `host:port` or a whole URL; `minio://` needs it, `s3://` without it is AWS"),
    "secure": ("", "S3: TLS, where `endpoint` is no URL"),
    "create_root": ("", "`file://`: make the folder where it is missing"),
    "access_key": ("", "S3: `minio://` needs it; `s3://` without it uses AWS' default credential chain"),
    "secret_key": ("", "S3: as `access_key`"),
    "session_token": ("", "S3: of temporary credentials"),
    "region": ("", "S3: where not set, `us-east-1` with an `endpoint`, else AWS' default chain"),
    "addressing_style": ("", "S3: bucket in the path or in the host name"),
    "max_concurrency": ("threads", "jobs at once; for S3 also connections"),
    "connect_timeout": ("seconds", "S3: to connect"),
    "read_timeout": ("seconds", "S3: that an answer, or the next bytes of it, may take"),
    "max_attempts": ("attempts", "S3: of one call, the first included"),
    "part_size": ("bytes", "S3: of a multipart upload"),
    "multipart_threshold": (
        "bytes",
        "S3: what is longer is uploaded in parts; a conditional write of `bytes` goes in one request all the same",
    ),
}

STORAGE_SCHEMES = {
    "file": ("file:///absolute/path", "`FilesystemStorageProvider`", _FILE_PARAMETERS),
    "minio": ("minio://bucket[/prefix]", "`MinioStorageProvider`", _S3_PARAMETERS),
    "s3": ("s3://bucket[/prefix]", "`MinioStorageProvider`", _S3_PARAMETERS),
}
