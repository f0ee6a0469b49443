"""Settings of the queue providers: from arguments, or from the environment as ``FACTFLOW_QUEUE_*``.

No secret is in any repr or error: credentials are taken out of the URI at once, and errors never quote it.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal, Self, cast
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from pydantic import Field, SecretStr, TypeAdapter, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from factflow_infra.errors import SettingsError
from factflow_infra.queue.options import MAX_PREFETCH, EngineOptions

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

DEFAULT_PORTS: Final[Mapping[str, int]] = {
    "amqp": 5672,
    "amqps": 5671,
    "stomp": 61613,
    "stomp+ssl": 61617,
    "pulsar": 6650,
    "pulsar+ssl": 6651,
}
"""The ports that are meant where the URI names none."""
_ENCRYPTED: Final = {"amqp": "amqps", "stomp": "stomp+ssl", "pulsar": "pulsar+ssl"}
_SECRET_FIELDS: Final = frozenset({"uri", "username", "password"})
_NOT_IN_A_QUERY: Final = frozenset({"uri", "username", "password"})


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One broker address. ``path`` is what follows the host, decoded and without its slash: the virtual host on AMQP."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def tls(self) -> bool:
        return self.scheme == "amqps" or self.scheme.endswith("+ssl")


class QueueSettings(BaseSettings):
    """Where the queue is and how to use it. Times are in seconds. Raises ``SettingsError`` for what cannot be used.

    ``uri``: ``amqp://``, ``amqps://``, ``stomp://``, ``stomp+ssl://``, ``pulsar://`` or ``pulsar+ssl://``; several, as a list
    or with commas, are tried in turn. Credentials in it become ``username`` and ``password``; other settings may stand in
    its query, as in ``amqp://host/vhost?prefetch=50``. ``queue_type``: of the queues that RabbitMQ is asked to declare.
    ``subscription_type``: of all consumers on Pulsar; ``key_shared`` keeps the order of each key across processes.
    ``heartbeat``: 0 turns it off. The other names are those of ``EngineOptions``.
    """

    model_config = SettingsConfigDict(
        env_prefix="FACTFLOW_QUEUE_", extra="forbid", frozen=True, hide_input_in_errors=True, validate_default=True
    )

    uri: str = ""
    username: str | None = None
    password: SecretStr | None = None
    tls_ca_file: str | None = None
    tls_cert_file: str | None = None
    tls_key_file: str | None = None
    tls_verify: bool = True
    queue_type: Literal["quorum", "classic"] = "quorum"
    subscription_type: Literal["shared", "key_shared"] = "shared"
    prefetch: int = Field(default=100, ge=1, le=MAX_PREFETCH)
    reconnect_base: float = Field(default=0.5, gt=0, allow_inf_nan=False)
    reconnect_cap: float = Field(default=30.0, gt=0, allow_inf_nan=False)
    connect_timeout: float = Field(default=30.0, gt=0, allow_inf_nan=False)
    publish_timeout: float = Field(default=30.0, gt=0, allow_inf_nan=False)
    max_message_bytes: int = Field(default=16 * 1024 * 1024, ge=1)
    heartbeat: float = Field(default=30.0, ge=0, allow_inf_nan=False)

    def __init__(self, **values: Any) -> None:
        # Pydantic's own error would carry what was given, secrets included, so it is not even the cause.
        problem: str
        try:
            super().__init__(**values)
        except ValidationError as error:
            problem = _explain(error)
        else:
            return
        raise SettingsError(problem)

    @model_validator(mode="before")
    @classmethod
    def _take_apart(cls, values: Any) -> Any:
        """Move what the URI says into the fields that it belongs to."""
        if not isinstance(values, dict):
            return values
        given = cast("dict[str, Any]", values)
        if "uri" not in given:
            return given
        uris, found = _read_uris(given["uri"], set(cls.model_fields) - _NOT_IN_A_QUERY)
        merged = {**given, "uri": ",".join(uris)}
        for name, value in found.items():
            existing = given.get(name)
            if isinstance(existing, SecretStr):
                existing = existing.get_secret_value()
            if existing is not None and str(existing) != value and not _is_same(cls, name, existing, value):
                raise ValueError(f"{name} is given twice, in the URI and beside it, with different values")
            merged[name] = value
        return merged

    @field_validator("username", "password", "tls_ca_file", "tls_cert_file", "tls_key_file")
    @classmethod
    def _not_empty(cls, value: Any) -> Any:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if text == "":
            raise ValueError("must not be empty; leave it out instead")
        return value

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.reconnect_base > self.reconnect_cap:
            raise ValueError("reconnect_base must be at most reconnect_cap")
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_cert_file and tls_key_file belong together")
        encrypted = _ENCRYPTED.get(self.scheme) if self.uri else None
        for name in ("tls_ca_file", "tls_cert_file"):
            if encrypted is not None and getattr(self, name) is not None:
                raise ValueError(f"{name} is set, but {self.scheme}:// is not encrypted: use {encrypted}://")
        return self

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The broker's addresses, in the order in which they are to be tried; none without a URI."""
        return tuple(_endpoint(uri) for uri in self.uri.split(",") if uri)

    @property
    def scheme(self) -> str:
        """The URI's scheme. Raises ``SettingsError`` without a URI."""
        if not self.uri:
            raise SettingsError(
                "no queue URI: set FACTFLOW_QUEUE_URI, or pass uri=, such as stomp://localhost or amqp://localhost"
            )
        return self.endpoints[0].scheme

    def changed(self, **overrides: Any) -> QueueSettings:
        """These settings with others in place of some, checked anew. What a new URI says goes before what was set until now."""
        kept = self.model_dump()
        if "uri" in overrides:
            with suppress(ValueError):  # it is told below
                for name in _read_uris(overrides["uri"], set(kept) - _NOT_IN_A_QUERY)[1]:
                    del kept[name]
        return QueueSettings(**{**kept, **overrides})

    def engine_options(self) -> EngineOptions:
        """What of these settings the engine heeds, whatever the broker."""
        return EngineOptions(
            reconnect_base=self.reconnect_base,
            reconnect_cap=self.reconnect_cap,
            connect_timeout=self.connect_timeout,
            publish_timeout=self.publish_timeout,
            prefetch=self.prefetch,
            max_message_bytes=self.max_message_bytes,
        )


def _is_same(settings: type[QueueSettings], name: str, one: object, other: str) -> bool:
    """Whether two spellings are one value: ``30`` and ``30.0``, ``False`` and ``false``."""
    read = TypeAdapter(cast("Any", settings.model_fields[name].annotation)).validate_python
    try:
        return read(one) == read(other)
    except ValidationError:
        return False


def _read_uris(given: object, allowed: set[str]) -> tuple[list[str], dict[str, str]]:
    """The URIs without credentials and query, and the settings that stood in them."""
    if isinstance(given, SecretStr):
        given = given.get_secret_value()
    texts: list[object] = list(cast("Iterable[object]", given)) if isinstance(given, (list, tuple)) else [given]
    parts: list[str] = []
    for text in texts:
        if not isinstance(text, str):
            raise ValueError(f"uri must be a str or a list of them, got {type(text).__name__}")  # noqa: TRY004
        parts += text.split(",")
    uris: list[str] = []
    found: dict[str, str] = {}
    scheme = ""
    for position, text in enumerate(part.strip() for part in parts):
        if not text:
            if given == "":
                return [], {}
            raise ValueError("uri has an empty part between commas")
        # pulsar://one:6650,two:6650 is how Pulsar writes it: the scheme stands once.
        split = _split(text if "://" in text or not position else f"{scheme}://{text}")
        scheme = scheme or split.scheme
        if split.scheme != scheme:
            raise ValueError(f"uri mixes the schemes {scheme!r} and {split.scheme!r}; use one")
        for name, value in _settings_in(split, allowed):
            if found.setdefault(name, value) != value:
                raise ValueError(f"the URIs disagree about {name}")
        uris.append(split._replace(netloc=split.netloc.rpartition("@")[2], query="").geturl())
    return uris, found


def _split(text: str) -> SplitResult:
    if "://" not in text:
        raise ValueError("uri must look like amqp://host:5672/vhost")
    try:
        split = urlsplit(text)
        port = split.port
    except ValueError:
        # urllib quotes the address, and with a slash missing that may be the password.
        raise ValueError("uri has a port that is no number from 1 to 65535, or a malformed host") from None
    if port == 0:
        raise ValueError("uri has a port that is no number from 1 to 65535, or a malformed host")
    if not split.hostname:
        raise ValueError("uri has no host")
    if split.fragment:
        raise ValueError("uri has a '#': write it %23 in credentials and names")
    return split


def _settings_in(split: SplitResult, allowed: set[str]) -> Iterable[tuple[str, str]]:
    userinfo, at, _ = split.netloc.rpartition("@")
    if at:
        username, colon, password = userinfo.partition(":")
        if username:
            yield "username", unquote(username)
        if colon and password:
            yield "password", unquote(password)
    for name, value in parse_qsl(split.query, keep_blank_values=True):
        if name not in allowed:
            raise ValueError(f"uri has an unknown query parameter {name!r}; known: {', '.join(sorted(allowed))}")
        yield name, value


@lru_cache(maxsize=256)
def _endpoint(uri: str) -> Endpoint:
    split = urlsplit(uri)
    host = split.hostname or ""
    return Endpoint(split.scheme, host, split.port or DEFAULT_PORTS.get(split.scheme, 0), unquote(split.path[1:]))


def _explain(error: ValidationError) -> str:
    """What is wrong with which setting, for people, without what must not be shown."""
    lines: list[str] = []
    for problem in error.errors(include_url=False, include_context=False):
        name = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            lines.append(f"unknown setting {name!r}; known: {', '.join(sorted(QueueSettings.model_fields))}")
            continue
        reason = problem["msg"].removeprefix("Value error, ")
        # Without a name it is about all of them, secrets too.
        shown = f", got {cast('object', problem['input'])!r}" if name and name not in _SECRET_FIELDS else ""
        lines.append(f"{name}: {reason}{shown}" if name else reason)
    return "; ".join(lines)
