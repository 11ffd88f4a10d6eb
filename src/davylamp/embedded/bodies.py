"""What a request says beside its path: query parameters and body."""

from __future__ import annotations

from typing import Any

import msgspec
import yaml
from aiohttp import web

from davylamp.embedded import status
from davylamp.embedded.accepting import Accepted, accepted
from davylamp.embedded.protobuf.decoding import Unreadable, decode

APPLY = "application/apply-patch+yaml"
UNREADABLE = "the embedded API server reads {}: send it as application/json"


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


async def body_of(request: web.Request) -> Any:
    """The body, from JSON, YAML or protobuf. Raises StatusError 400 or 415."""
    raw = await request.read()
    kind = request.content_type
    if "cbor" in kind:
        raise status.StatusError(415, "UnsupportedMediaType", UNREADABLE.format("JSON, YAML and protobuf, no CBOR"))
    try:
        if "protobuf" in kind:
            return decode(raw)
        if kind in ("application/yaml", APPLY) and not raw.lstrip().startswith(b"{"):
            return yaml.safe_load(raw)
        return msgspec.json.decode(raw)
    except Unreadable as kind_:
        message = UNREADABLE.format(f"no protobuf of {kind_}, but that of Kubernetes' own kinds")
        raise status.StatusError(415, "UnsupportedMediaType", message) from None
    except (ValueError, yaml.YAMLError) as error:
        raise status.bad_request(f"the object provided is unrecognized: {error}") from error


async def options_of(request: web.Request, query: Query) -> DeleteOptions:
    """How something is to be deleted, from the body or the query."""
    body = await body_of(request) if (await request.read()).strip() else {}
    if not isinstance(body, dict):
        raise status.bad_request("the options of a deletion are no JSON object")
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
