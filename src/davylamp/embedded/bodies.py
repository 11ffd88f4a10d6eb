"""What a request says beside its path: query parameters and body."""

from __future__ import annotations

from typing import Any

import msgspec
import yaml
from aiohttp import web

from davylamp.embedded import status
from davylamp.embedded.accepting import Accepted, accepted

APPLY = "application/apply-patch+yaml"
JSON_ONLY = (
    "the embedded API server reads JSON and YAML, no protobuf; "
    "with kubectl: the same command with --dry-run=client -o yaml, piped into kubectl apply -f -"
)


class Query(msgspec.Struct, frozen=True):
    """The query parameters that are understood, and what the client accepts."""

    labels: str = ""
    fields: str = ""
    limit: int = 0
    token: str = ""
    """Where a list goes on (`continue`)."""
    watch: bool = False
    resource_version: str = ""
    match: str = ""
    bookmarks: bool = False
    initial: bool = False
    """`sendInitialEvents`."""
    timeout: float = 0
    """Seconds after which a watch ends; 0 for the server's own choice."""
    dry_run: bool = False
    force: bool = False
    field_manager: str = ""
    validation: str = "Warn"
    """Strict, Warn or Ignore."""
    answer: Accepted = Accepted()
    include: str = "Metadata"
    """How much of each object a Table carries: None, Metadata or Object."""


class DeleteOptions(msgspec.Struct, frozen=True):
    uid: str = ""
    resource_version: str = ""
    propagation: str = "Background"
    grace_seconds: int | None = None
    dry_run: bool = False


def query_of(request: web.Request) -> Query:
    """The parameters of a request. Raises StatusError 400 for one that can't be meant, 406 where no format fits."""
    given = request.query
    dry_run = given.getall("dryRun", [])
    if any(value != "All" for value in dry_run):
        raise status.bad_request(f'dryRun: Unsupported value: "{dry_run[0]}": supported values: "All"')
    return Query(
        labels=given.get("labelSelector", ""),
        fields=given.get("fieldSelector", ""),
        limit=_number(given.get("limit")) or 0,
        token=given.get("continue", ""),
        watch=_true(given.get("watch")),
        resource_version=given.get("resourceVersion", ""),
        match=given.get("resourceVersionMatch", ""),
        bookmarks=_true(given.get("allowWatchBookmarks")),
        initial=_true(given.get("sendInitialEvents")),
        timeout=_number(given.get("timeoutSeconds")) or 0,
        dry_run=bool(dry_run),
        force=_true(given.get("force")),
        field_manager=given.get("fieldManager", "") or ("" if request.content_type == APPLY else manager_of(request)),
        validation=given.get("fieldValidation", "") or "Warn",
        answer=accepted(",".join(request.headers.getall("Accept", ()))),
        include=given.get("includeObject", "") or "Metadata",
    )


def manager_of(request: web.Request) -> str:
    """The field manager of a client that names none: the first word of its user agent."""
    return request.headers.get("User-Agent", "").partition("/")[0][:128] or "unknown"


def is_readable(request: web.Request) -> bool:
    """Whether the body is in a format that is read here."""
    return not any(name in request.content_type for name in ("protobuf", "cbor"))


async def body_of(request: web.Request) -> Any:
    """The body, from JSON or YAML. Raises StatusError 400 or 415."""
    raw = await request.read()
    kind = request.content_type
    if not is_readable(request):
        raise status.StatusError(415, "UnsupportedMediaType", JSON_ONLY)
    try:
        if kind in ("application/yaml", APPLY) and not raw.lstrip().startswith(b"{"):
            return yaml.safe_load(raw)
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, yaml.YAMLError) as error:
        raise status.bad_request(f"the object provided is unrecognized: {error}") from error


async def options_of(request: web.Request, query: Query) -> DeleteOptions:
    """How something is to be deleted, from the body or the query."""
    raw = await request.read()
    body = msgspec.json.decode(raw, type=dict[str, Any]) if raw.strip() else {}
    preconditions = body.get("preconditions") or {}
    given = request.query
    propagation = body.get("propagationPolicy") or given.get("propagationPolicy") or "Background"
    if propagation not in ("Background", "Foreground", "Orphan"):
        raise status.bad_request(f"propagationPolicy: Unsupported value: {status.show(propagation)}")
    orphan = body.get("orphanDependents")
    grace = body.get("gracePeriodSeconds")
    return DeleteOptions(
        uid=preconditions.get("uid") or "",
        resource_version=preconditions.get("resourceVersion") or "",
        propagation="Orphan" if orphan else propagation,
        grace_seconds=grace if grace is not None else _number(given.get("gracePeriodSeconds")),
        dry_run=query.dry_run or bool(body.get("dryRun")),
    )


def _true(text: str | None) -> bool:
    return text is not None and text.lower() not in ("", "0", "false")


def _number(text: str | None) -> int | None:
    if text is None or text == "":
        return None
    try:
        return int(text)
    except ValueError:
        raise status.bad_request(f"{text!r} is not a number") from None
