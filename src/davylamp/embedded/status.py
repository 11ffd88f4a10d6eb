"""Refusals of the API server: an exception that is a Kubernetes Status (meta/v1), in the real server's words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec


class StatusError(Exception):
    """A request that is refused. `code` is the HTTP status, `reason` Kubernetes' word for it (StatusReason)."""

    def __init__(self, code: int, reason: str, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(code, reason, message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details or {}

    def __str__(self) -> str:
        return self.message

    @property
    def status(self) -> dict[str, Any]:
        """The body of the answer."""
        body: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        }
        return body | ({"details": self.details} if self.details else {})


class Cause(msgspec.Struct, frozen=True):
    """One wrong field. `text` is the whole sentence after the field's path, as Kubernetes words it."""

    field: str
    text: str
    reason: str = "FieldValueInvalid"

    def __str__(self) -> str:
        return f"{self.field}: {self.text}"


def show(value: Any) -> str:
    """A value in a message: strings and objects as JSON."""
    return msgspec.json.encode(value).decode()


def invalid_value(field: str, value: Any, why: str) -> Cause:
    return Cause(field, f"Invalid value: {show(value)}: {why}")


def required(field: str, why: str = "") -> Cause:
    return Cause(field, f"Required value: {why}" if why else "Required value", "FieldValueRequired")


def forbidden_field(field: str, why: str) -> Cause:
    return Cause(field, f"Forbidden: {why}", "FieldValueForbidden")


def unsupported(field: str, value: Any, choices: Sequence[Any]) -> Cause:
    listed = ", ".join(show(choice) for choice in choices)
    return Cause(field, f"Unsupported value: {show(value)}: supported values: {listed}", "FieldValueNotSupported")


def _details(group: str, what: str, name: str) -> dict[str, Any]:
    return {key: value for key, value in (("name", name), ("group", group), ("kind", what)) if value}


def _resource(group: str, plural: str) -> str:
    return f"{plural}.{group}" if group else plural


def not_found(group: str, plural: str, name: str) -> StatusError:
    message = f'{_resource(group, plural)} "{name}" not found'
    return StatusError(404, "NotFound", message, _details(group, plural, name))


def no_such_path() -> StatusError:
    return StatusError(404, "NotFound", "the server could not find the requested resource")


def already_exists(group: str, plural: str, name: str) -> StatusError:
    message = f'{_resource(group, plural)} "{name}" already exists'
    return StatusError(409, "AlreadyExists", message, _details(group, plural, name))


MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


def conflict(group: str, plural: str, name: str, why: str = MODIFIED) -> StatusError:
    message = f'Operation cannot be fulfilled on {_resource(group, plural)} "{name}": {why}'
    return StatusError(409, "Conflict", message, _details(group, plural, name))


def bad_request(message: str) -> StatusError:
    return StatusError(400, "BadRequest", message)


def forbidden(group: str, plural: str, name: str, why: str, causes: Sequence[Cause] = ()) -> StatusError:
    message = f'{_resource(group, plural)} "{name}" is forbidden: {why}'
    details = _details(group, plural, name)
    if causes:
        details["causes"] = [{"reason": c.reason, "message": c.text, "field": c.field} for c in causes]
    return StatusError(403, "Forbidden", message, details)


def invalid(group: str, kind: str, name: str, causes: Sequence[Cause]) -> StatusError:
    """422 for an object with wrong fields. One cause stands alone in the message, several in brackets."""
    sentences = [str(cause) for cause in causes]
    text = sentences[0] if len(sentences) == 1 else f"[{', '.join(sentences)}]"
    message = f'{_resource(group, kind)} "{name}" is invalid: {text}'
    details = _details(group, kind, name)
    details["causes"] = [{"reason": c.reason, "message": c.text, "field": c.field} for c in causes]
    return StatusError(422, "Invalid", message, details)


def expired(message: str) -> StatusError:
    return StatusError(410, "Expired", message)


def not_implemented(message: str) -> StatusError:
    return StatusError(501, "NotImplemented", f"the embedded API server can't do this: {message}")


def method_not_supported() -> StatusError:
    return StatusError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
