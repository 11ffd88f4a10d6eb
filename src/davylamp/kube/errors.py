"""What can go wrong with a request to the API server, as one exception with readable properties."""

from __future__ import annotations

import msgspec

from davylamp.core.actions import Ref


class ApiError(Exception):
    """A request that the API server refused, or that never reached it.

    `code` is the HTTP status, 0 where there was no answer. `reason` is the API server's own word (`NotFound`,
    `Conflict`, `Invalid`...), or ours for code 0: `Unreachable`, `TLS`, `Timeout`.
    """

    def __init__(self, code: int, reason: str, message: str, *, verb: str = "", ref: Ref | None = None) -> None:
        super().__init__(code, reason, message)
        self.code = code
        self.reason = reason
        self.message = message
        self.verb = verb
        self.ref = ref

    def __str__(self) -> str:
        what = f"{self.verb} {self.ref}".rstrip(" /") if self.ref else self.verb
        return f"{what}: {self.message}" if what else self.message

    @property
    def not_found(self) -> bool:
        return self.code == 404

    @property
    def already_exists(self) -> bool:
        return self.code == 409 and self.reason == "AlreadyExists"

    @property
    def conflict(self) -> bool:
        """The object is not as the writer believed: look again, then decide again."""
        return self.code == 409 and self.reason != "AlreadyExists"

    @property
    def gone(self) -> bool:
        """A resource version too old to continue from: list again."""
        return self.code == 410

    @property
    def forbidden(self) -> bool:
        return self.code == 403

    @property
    def terminating(self) -> bool:
        """The namespace is being deleted or gone, and nothing can be created in it any more."""
        gone = self.not_found and self.message.startswith('namespaces "')
        return gone or (self.forbidden and "because it is being terminated" in self.message)

    @property
    def unauthorized(self) -> bool:
        return self.code == 401

    @property
    def invalid(self) -> bool:
        return self.code in (400, 422)

    @property
    def unreachable(self) -> bool:
        """No answer came, so it is not known whether a write was carried out."""
        return self.code == 0


class ConfigProblem(Exception):
    """The way to a cluster can't be made out: no kubeconfig, an unknown context, a file that is no kubeconfig."""


class _Details(msgspec.Struct, frozen=True):
    retryAfterSeconds: int = 0


class Status(msgspec.Struct, frozen=True):
    """The body of a refusal (kind Status of meta/v1)."""

    kind: str = ""
    code: int = 0
    reason: str = ""
    message: str = ""
    details: _Details | None = None


_decode_status = msgspec.json.Decoder(Status).decode


def read_status(raw: bytes | msgspec.Raw) -> Status | None:
    """The Status in `raw`, or None where it is none (a proxy's page, say)."""
    try:
        status = _decode_status(raw)
    except msgspec.MsgspecError:
        return None
    return status if status.kind == "Status" else None


def refusal(code: int, body: bytes, *, verb: str, ref: Ref, whom: str) -> ApiError:
    """The exception for an answer with an HTTP error. `whom` names the API server, for a person."""
    status = read_status(body)
    if code == 401:
        hint = "is the token expired, or does this user belong to another cluster?"
        return ApiError(code, "Unauthorized", f"{whom} does not know who is asking (401): {hint}", verb=verb, ref=ref)
    if status is None or not (status.message or status.reason):
        text = body[:200].decode("utf-8", "replace").strip()
        return ApiError(code, "", f"{whom} answered {code}: {text or 'without a message'}", verb=verb, ref=ref)
    return ApiError(code, status.reason, status.message or status.reason, verb=verb, ref=ref)
