"""Kubernetes' own OpenAPI definitions of the built-in kinds that are served.

They are those of Kubernetes' api/openapi-spec/swagger.json (Apache License 2.0), as many as the served kinds need, in
openapi.json.gz. `python -m davylamp.embedded.schemas path/to/swagger.json` makes that file anew.
"""

from __future__ import annotations

import functools
import gzip
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from davylamp.embedded.resources import BUILT_IN

FILE = "openapi.json.gz"
GVK = "x-kubernetes-group-version-kind"
META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
EXTRA = (META, "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions", "io.k8s.apimachinery.pkg.apis.meta.v1.Status")


@functools.cache
def definitions() -> dict[str, Any]:
    """All definitions by name, as in an OpenAPI v2 document."""
    raw = resources.files(__package__).joinpath(FILE).read_bytes()
    found: dict[str, Any] = msgspec.json.decode(gzip.decompress(raw))
    return found


@functools.cache
def names() -> dict[tuple[str, str, str], str]:
    """The definition's name of each kind, by group, version and kind."""
    return {
        (gvk["group"], gvk["version"], gvk["kind"]): name
        for name, definition in definitions().items()
        for gvk in definition.get(GVK, ())
    }


def closure(wanted: list[str], everything: dict[str, Any]) -> dict[str, Any]:
    """The definitions in `wanted` and all that they refer to."""
    found: dict[str, Any] = {}
    todo = list(wanted)
    while todo:
        name = todo.pop()
        if name not in found:
            found[name] = everything[name]
            todo += _references(everything[name])
    return {name: found[name] for name in sorted(found)}


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"].rpartition("/")[2]
        for value in part.values():
            yield from _references(value)
    elif isinstance(part, list):
        for value in part:
            yield from _references(value)


def _generate(swagger: Path) -> bytes:
    everything = msgspec.json.decode(swagger.read_bytes())["definitions"]
    served = {(row.group, version, row.kind) for row in BUILT_IN for version in row.versions}
    wanted = [
        name
        for name, definition in everything.items()
        if any((gvk["group"], gvk["version"], gvk["kind"]) in served for gvk in definition.get(GVK, ()))
    ]
    return gzip.compress(msgspec.json.encode(closure([*wanted, *EXTRA], everything)), 9, mtime=0)


if __name__ == "__main__":
    Path(__file__).with_name(FILE).write_bytes(_generate(Path(sys.argv[1])))
