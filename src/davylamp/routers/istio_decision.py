"""Who gets this request: what Istio makes of a VirtualService, as a pure function.

Read from Istio's `pilot/pkg/networking/core/route/route.go` (`BuildHTTPRoutesForVirtualService`, `TranslateRoute`,
`TranslateRouteMatch`): the first HTTP route of which an entry matches decides, and a route without entries matches
everything. Of several destinations each gets its weight's share of the sum; without a weight it gets nothing.
Left out: JWT claims as conditions, delegates, TCP and TLS routes' own matches.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from davylamp.routers.istio_rules import MESH, Json, holds, is_present
from davylamp.routers.istio_split import maps


class Request(msgspec.Struct, frozen=True):
    """What a VirtualService can look at. Names of headers are in lower case; `gateway` is `mesh` for a sidecar, whose
    pod has `source_labels` and is in `source_namespace`."""

    path: str = "/"
    method: str = "GET"
    authority: str = ""
    scheme: str = "http"
    port: int = 80
    headers: Mapping[str, str] = {}
    query: Mapping[str, str] = {}
    gateway: str = MESH
    source_labels: Mapping[str, str] = {}
    source_namespace: str = ""


def first(spec: Json, request: Request) -> Json | None:
    """The HTTP route that decides on `request`; None where none does (404 at a gateway, as usual in the mesh)."""
    for route in maps(spec, "http"):
        entries = route.get("match") or []
        if not entries or any(_matches(entry, request) for entry in entries):
            return route
    return None


def shares(route: Json) -> list[tuple[Json, float]]:
    """Destinations and their parts of the requests, 0 to 1; those that get none are left out."""
    targets = maps(route, "route")
    if len(targets) == 1:
        return [(targets[0]["destination"], 1.0)]
    total = sum(int(target.get("weight", 0)) for target in targets)
    return [(t["destination"], t["weight"] / total) for t in targets if total and t.get("weight")]


def _matches(entry: Json, request: Request) -> bool:
    return _from(entry, request) and _asks(entry, request) and _maps_hold(entry, request)


def _from(entry: Json, request: Request) -> bool:
    """`sourceMatchHTTP`: gateways, or else the pod's labels and namespace."""
    if gateways := entry.get("gateways"):
        return request.gateway in gateways
    labels, namespace = entry.get("sourceLabels") or {}, entry.get("sourceNamespace", "")
    return labels.items() <= request.source_labels.items() and namespace in ("", request.source_namespace)


def _asks(entry: Json, request: Request) -> bool:
    if entry.get("port") not in (None, 0, request.port):
        return False
    if not _uri(entry, request.path):
        return False
    found = {"method": request.method, "authority": request.authority, "scheme": request.scheme}
    return all(field not in entry or holds(entry[field], value) for field, value in found.items())


def _uri(entry: Json, path: str) -> bool:
    wanted = entry.get("uri")
    return not wanted or holds(wanted, path, ignore_case=bool(entry.get("ignoreUriCase")))


def _maps_hold(entry: Json, request: Request) -> bool:
    headers = request.headers
    if not all(holds(wanted, headers.get(name.lower())) for name, wanted in (entry.get("headers") or {}).items()):
        return False
    for name, wanted in (entry.get("withoutHeaders") or {}).items():
        if name.lower() in headers and (is_present(wanted or {}) or holds(wanted, headers[name.lower()])):
            return False
    return all(holds(wanted, request.query.get(name)) for name, wanted in (entry.get("queryParams") or {}).items())
