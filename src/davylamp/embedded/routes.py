"""What a URL path of the API server means."""

from __future__ import annotations

import msgspec

from davylamp.embedded.status import no_such_path


class Place(msgspec.Struct, frozen=True):
    """An object (`name`), a part of it (`subresource`), or a collection of them."""

    group: str
    version: str
    plural: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    rest: str = ""
    """What follows `proxy`, with its leading slash."""


def place(path: str) -> Place:
    """The place of `/api/v1/...` or `/apis/GROUP/VERSION/...` below the version. Raises StatusError 404."""
    parts = path.strip("/").split("/")
    group = ""
    if parts[0] == "apis":
        group, parts = parts[1], parts[1:]
    version, rest = parts[1], parts[2:]
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in ("status", "finalize"):
        namespace, rest = rest[1], rest[2:]
    beyond = ""
    if rest[2:3] == ["proxy"]:
        beyond, rest = "".join(f"/{part}" for part in rest[3:]), rest[:3]
    if not 1 <= len(rest) <= 3 or not all(rest):
        raise no_such_path()
    plural, name, subresource = [*rest, "", ""][:3]
    return Place(group, version, plural, namespace, name, subresource, beyond)
