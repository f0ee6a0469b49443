"""Protocol Buffers, as far as Pulsar uses them: messages as dicts, by a table of fields.

A message is a mapping from field names to ``int``, ``float``, ``bool``, ``str``, ``bytes``, nested mappings, or lists of those
where a field is repeated. Unknown fields are passed over, as the format asks for. What comes from outside is hostile:
every read is checked, and nesting is bounded.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from _typeshed import ReadableBuffer

_DEEPEST: Final = 8
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_WIRE_TYPES: Final = {"int": _VARINT, "uint": _VARINT, "bool": _VARINT, "double": _FIXED64}
_64_BITS: Final = (1 << 64) - 1
_SIGN: Final = 1 << 63


class DecodeError(ValueError):
    """The bytes are no such message."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field: ``kind`` is ``int``, ``uint``, ``bool``, ``double``, ``string``, ``bytes``, or the name of a message."""

    number: int
    name: str
    kind: str
    required: bool
    repeated: bool

    @property
    def tag(self) -> bytes:
        """What stands before each value of this field."""
        return encode_varint(self.number << 3 | _WIRE_TYPES.get(self.kind, _BYTES))


class Message:
    """The fields of one message, by number to read it and in order to write it."""

    __slots__ = ("by_number", "name", "required", "writing")

    def __init__(self, name: str, fields: tuple[Field, ...]) -> None:
        self.name = name
        self.by_number = {field.number: field for field in fields}
        self.required = tuple(field.name for field in fields if field.required)
        self.writing = tuple((field, field.tag) for field in fields)


class Codec:
    """Messages by name. ``table`` has for each its fields, a line each: ``number name kind``.

    A ``!`` behind the number means required, a ``*`` repeated.
    """

    def __init__(self, table: Mapping[str, str]) -> None:
        self._messages = {
            name: Message(name, tuple(_field(line) for line in text.splitlines() if line.strip()))
            for name, text in table.items()
        }

    def __len__(self) -> int:
        return len(self._messages)

    def decode(self, name: str, data: ReadableBuffer) -> dict[str, Any]:
        """Read a message called ``name``. Raises ``DecodeError``. Fields that are absent are absent in the result."""
        return self._decode(self._messages[name], memoryview(data), _DEEPEST)

    def encode(self, name: str, values: Mapping[str, Any]) -> bytes:
        """Write a message called ``name``; fields that are absent or ``None`` are left out."""
        out: list[bytes] = []
        for field, tag in self._messages[name].writing:
            value = values.get(field.name)
            if value is None:
                continue
            for one in value if field.repeated else (value,):
                out.append(tag)
                out.append(self._encode_value(field, one))
        return b"".join(out)

    def _encode_value(self, field: Field, value: Any) -> bytes:
        kind = field.kind
        if kind in ("int", "uint", "bool"):
            return encode_varint(int(value) & _64_BITS)
        if kind == "double":
            return struct.pack("<d", value)
        if kind == "string":
            data = value.encode("utf-8", "surrogateescape")
        elif kind == "bytes":
            data = bytes(value)
        else:
            data = self.encode(kind, value)
        return encode_varint(len(data)) + data

    def _decode(self, message: Message, data: memoryview, depth: int) -> dict[str, Any]:
        if not depth:
            raise DecodeError(f"{message.name} is nested too deep")
        values: dict[str, Any] = {}
        at, end = 0, len(data)
        while at < end:
            key, at = decode_varint(data, at)
            number, wire_type = key >> 3, key & 7
            raw, at = _read_raw(data, at, wire_type)
            field = message.by_number.get(number)
            if field is None:
                continue
            expected = _WIRE_TYPES.get(field.kind, _BYTES)
            if wire_type == expected:
                value = self._value(field, raw, depth)
                if field.repeated:
                    values.setdefault(field.name, []).append(value)
                else:
                    values[field.name] = value
            elif field.repeated and expected == _VARINT and wire_type == _BYTES:
                packed = values.setdefault(field.name, [])
                inner = 0
                while inner < len(raw):
                    one, inner = decode_varint(raw, inner)
                    packed.append(_whole(field.kind, one))
            else:
                raise DecodeError(f"{message.name}.{field.name} has wire type {wire_type}")
        for name in message.required:
            if name not in values:
                raise DecodeError(f"{message.name} lacks {name}")
        return values

    def _value(self, field: Field, raw: Any, depth: int) -> Any:
        kind = field.kind
        if kind in ("int", "uint", "bool"):
            return _whole(kind, raw)
        if kind == "string":
            return bytes(raw).decode("utf-8", "surrogateescape")
        if kind == "bytes":
            return bytes(raw)
        if kind == "double":
            return struct.unpack("<d", raw)[0]
        return self._decode(self._messages[kind], raw, depth - 1)


def _whole(kind: str, value: int) -> int | bool:
    if kind == "bool":
        return bool(value)
    return value - (1 << 64) if kind == "int" and value & _SIGN else value


def _field(line: str) -> Field:
    number, name, kind = line.split()
    return Field(int(number.rstrip("!*")), name, kind, required=number.endswith("!"), repeated=number.endswith("*"))


def encode_varint(value: int) -> bytes:
    """A whole number from 0, seven bits a byte, lowest first."""
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode_varint(data: memoryview, at: int) -> tuple[int, int]:
    """The number that begins at ``at``, of at most 64 bits, and where it ends. Raises ``DecodeError``."""
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise DecodeError("a number is cut off, or longer than 64 bits")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & _64_BITS, at
        shift += 7


def _read_raw(data: memoryview, at: int, wire_type: int) -> tuple[Any, int]:
    if wire_type == _VARINT:
        return decode_varint(data, at)
    if wire_type == _BYTES:
        size, at = decode_varint(data, at)
    elif wire_type == _FIXED64:
        size = 8
    elif wire_type == _FIXED32:
        size = 4
    else:
        raise DecodeError(f"there is no wire type {wire_type}")
    if size > len(data) - at:
        raise DecodeError("a field is longer than its message")
    return data[at : at + size], at + size
