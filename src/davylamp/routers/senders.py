"""Which Services the routes of the Gateway API and of Istio send to, read from specs that are kept as they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from davylamp.api.objects import DestinationRule, GRPCRoute, HTTPRoute, VirtualService

Split = HTTPRoute | GRPCRoute | VirtualService | DestinationRule
"""Objects that other routers than the one for Ingresses read."""


def services_of(obj: Split) -> set[str]:
    """Names of the Services in the object's own namespace that it sends to, or that it is about."""
    namespace = obj.metadata.namespace
    match obj:
        case HTTPRoute() | GRPCRoute():
            refs = (ref for rule in _maps(obj.spec.get("rules")) for ref in _maps(rule.get("backendRefs")))
            return {str(ref.get("name", "")) for ref in refs if is_service(ref, namespace)}
        case VirtualService():
            named = {service_of_host(host, namespace) for host in hosts_of(obj)}
            return {name for name in named if name is not None}
        case DestinationRule():
            name = service_of_host(str(obj.spec.get("host", "")), namespace)
            return {name} if name is not None else set()


def is_service(ref: dict[str, Any], namespace: str) -> bool:
    """Whether a backendRef means a Service of `namespace` (the defaults of the Gateway API)."""
    given = (ref.get("kind", "Service"), ref.get("group", ""), ref.get("namespace", namespace))
    return given == ("Service", "", namespace)


def names_of(obj: VirtualService) -> set[str]:
    """The hosts whose requests a VirtualService is about."""
    found = obj.spec.get("hosts")
    return {str(host) for host in found} if isinstance(found, list) else set()


def hosts_of(obj: VirtualService) -> Iterator[str]:
    """The hosts of all destinations of a VirtualService."""
    for protocol in ("http", "tls", "tcp"):
        for route in _maps(obj.spec.get(protocol)):
            for target in _maps(route.get("route")):
                destination = target.get("destination")
                if isinstance(destination, dict):
                    yield str(destination.get("host", ""))


def service_of_host(host: str, namespace: str) -> str | None:
    """The Service of `namespace` that a host of Istio means, None if it means none: `web`, `web.shop`,
    `web.shop.svc` or `web.shop.svc.cluster.local` (the cluster's domain may be another one)."""
    name, _, rest = host.partition(".")
    if not name or name == "*":
        return None
    parts = rest.split(".") if rest else []
    if not parts or (parts[0] == namespace and (len(parts) == 1 or parts[1] == "svc")):
        return name
    return None


def _maps(found: Any) -> list[dict[str, Any]]:
    """The mappings in a list, whatever else a foreign object has there."""
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
