"""Objects from protobuf: an envelope (runtime.Unknown) with the kind, and in it the kind's message. Pure."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from davylamp.embedded.protobuf.table import META, PACKAGES, SCALE, Field, table

Object = dict[str, Any]

MAGIC = b"k8s\0"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EMPTY: dict[str, Any] = {"string": "", "bytes": "", "int": 0, "bool": False}


class Unreadable(ValueError):
    """A kind whose messages aren't known; what it says is `apiVersion kind`."""


def decode(raw: bytes) -> Object:
    """The object as JSON has it. Raises ValueError for what is no such message, Unreadable for another kind."""
    if not raw.startswith(MAGIC):
        raise ValueError("the body doesn't begin with the four bytes of Kubernetes' protobuf")
    envelope = dict(_parts(raw[len(MAGIC) :]))
    head = {number: _bytes(value).decode() for number, value in _parts(_bytes(envelope.get(1, b"")))}
    api_version, kind = head.get(1, ""), head.get(2, "")
    return {"apiVersion": api_version, "kind": kind} | _message(_bytes(envelope.get(2, b"")), _type(api_version, kind))


def _type(api_version: str, kind: str) -> str:
    group, _, version = api_version.rpartition("/")
    package = PACKAGES.get(group, "")
    if kind == "DeleteOptions":
        return f"{META}.{kind}"
    if (api_version, kind) == (SCALE, "Scale"):
        return f"{SCALE}.{kind}"
    if not package.endswith(f"/{version}") or f"{package}.{kind}" not in table():
        raise Unreadable(f"{api_version} {kind}")
    return f"{package}.{kind}"


def _message(raw: bytes, type_: str) -> Object:
    fields = table()[type_]
    found: Object = {}
    for number, value in _parts(raw):
        field = fields.get(number)
        if field is not None:
            _add(found, field, value)
    return found


def _add(found: Object, field: Field, value: int | bytes) -> None:
    if field.many == "[]":
        found.setdefault(field.name, []).append(_value(value, field.type))
    elif field.many:
        entry = dict(_parts(_bytes(value)))
        key = _bytes(entry.get(1, b"")).decode()
        item = _value(entry[2], field.type) if 2 in entry else _EMPTY.get(field.type, {})
        found.setdefault(field.name, {})[key] = item
    elif not field.name:
        found |= _value(value, field.type)
    elif (given := _value(value, field.type)) or (field.pointer and given is not None):
        # Go writes what is no pointer always, also where it says nothing.
        found[field.name] = given


def _value(value: int | bytes, type_: str) -> Any:
    match type_:
        case "string":
            return _bytes(value).decode()
        case "bytes":
            return base64.b64encode(_bytes(value)).decode()
        case "bool":
            return bool(value)
        case "int":
            return _signed(value)
        case "double":
            return struct.unpack("<d", _bytes(value))[0]
        case "Strings":
            return [_bytes(item).decode() for _, item in _parts(_bytes(value))]
    if type_ in table():
        return _message(_bytes(value), type_)
    return _special(dict(_parts(_bytes(value))), type_)


def _special(parts: dict[int, int | bytes], type_: str) -> Any:
    """Messages that are one value in JSON."""
    match type_:
        case "Quantity":
            return _bytes(parts.get(1, b"0")).decode()
        case "IntOrString":
            return _bytes(parts.get(3, b"")).decode() if parts.get(1) else _signed(parts.get(2, 0))
        case "FieldsV1" | "RawExtension":
            return msgspec.json.decode(_bytes(parts.get(1, b"null")))
        case "Duration":
            return f"{_signed(parts.get(1, 0)) / 1e9:g}s"
        case "Time" | "MicroTime":
            if not parts:
                return None
            seconds, nanos = _signed(parts.get(1, 0)), _signed(parts.get(2, 0))
            moment = _EPOCH + timedelta(seconds=seconds, microseconds=nanos // 1000)
            return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ" if type_ == "MicroTime" else "%Y-%m-%dT%H:%M:%SZ")
    raise AssertionError(type_)


# --- the wire ---


def _parts(raw: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message: number, and a number or bytes. Raises ValueError."""
    at = 0
    while at < len(raw):
        key, at = _varint(raw, at)
        match key & 7:
            case 0:
                value, at = _varint(raw, at)
                yield key >> 3, value
                continue
            case 1:
                size = 8
            case 2:
                size, at = _varint(raw, at)
            case 5:
                size = 4
            case wire:
                raise ValueError(f"there is no field of wire type {wire}")
        if at + size > len(raw):
            raise ValueError("the message ends within a field")
        yield key >> 3, raw[at : at + size]
        at += size


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        if at >= len(raw):
            raise ValueError("the message ends within a number")
        byte = raw[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
    raise ValueError("a number has more than 64 bits")


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number stands where text or a message should")
    return value


def _signed(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise ValueError("text or a message stands where a number should")
    return value - (1 << 64) if value >= 1 << 63 else value
