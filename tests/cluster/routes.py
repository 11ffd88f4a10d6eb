"""The users' own objects that routers split, each called `web`, as tests apply them."""

from __future__ import annotations

from tests.cluster.shop import Json, Shop

GATEWAY_API = "gateway.networking.k8s.io/v1"
ISTIO_API = "networking.istio.io/v1"
INGRESS_GATEWAY = "istio-ingressgateway.istio-system.svc.cluster.local"

GATEWAY: Json = {
    "apiVersion": GATEWAY_API,
    "kind": "Gateway",
    "metadata": {"name": "web"},
    "spec": {"gatewayClassName": "traefik", "listeners": [{"name": "web", "port": 80, "protocol": "HTTP"}]},
}
EDGE: Json = {
    "apiVersion": ISTIO_API,
    "kind": "Gateway",
    "metadata": {"name": "edge"},
    "spec": {
        "selector": {"istio": "ingressgateway"},
        "servers": [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}],
    },
}


def istio_gateway(shop: Shop) -> Json:
    """A Gateway of the Gateway API that Istio serves by the proxy that runs; it is where that proxy's Service is."""
    everyone = {"namespaces": {"from": "All"}}
    listener = {"name": "http", "port": 80, "protocol": "HTTP", "hostname": shop.host, "allowedRoutes": everyone}
    return {
        "apiVersion": GATEWAY_API,
        "kind": "Gateway",
        "metadata": {"name": shop.namespace, "namespace": "istio-system"},
        "spec": {
            "gatewayClassName": "istio",
            "listeners": [listener],
            "addresses": [{"type": "Hostname", "value": INGRESS_GATEWAY}],
        },
    }


def gateway_route(kind: str, parent: Json, **spec: object) -> Json:
    """An HTTPRoute or GRPCRoute that sends everything to the Service."""
    content: Json = {"parentRefs": [parent], "rules": [{"backendRefs": [{"name": "web", "port": 80}]}]} | spec
    return {"apiVersion": GATEWAY_API, "kind": kind, "metadata": {"name": "web"}, "spec": content}


def parent_of(shop: Shop) -> Json:
    """`istio_gateway`, as a route refers to it."""
    return {"name": shop.namespace, "namespace": "istio-system"}


def http_route(host: str, **spec: object) -> Json:
    """A rule that sends elsewhere, and two for the Service, with things that a release has to keep."""
    backend: Json = {"name": "web", "port": 80, "weight": 7}
    away = {"type": "RequestRedirect", "requestRedirect": {"hostname": "other.example", "statusCode": 302}}
    added = {"type": "RequestHeaderModifier", "requestHeaderModifier": {"add": [{"name": "X-From", "value": "route"}]}}
    rules: list[Json] = [
        {"matches": [{"headers": [{"name": "X-Other", "value": "1"}]}], "filters": [away]},
        {"name": "api", "matches": [{"path": {"value": "/api"}}], "filters": [added], "backendRefs": [backend]},
        {"backendRefs": [backend], "timeouts": {"request": "20s"}},
    ]
    return gateway_route("HTTPRoute", {"name": "web"}, **({"hostnames": [host], "rules": rules} | spec))


def grpc_route(shop: Shop) -> Json:
    """Two rules for the Service, with things that a release has to keep."""
    backend: Json = {"name": "web", "port": 80, "weight": 7}
    added = {"type": "RequestHeaderModifier", "requestHeaderModifier": {"add": [{"name": "X-From", "value": "route"}]}}
    other = {"matches": [{"method": {"service": "other.Other"}}], "filters": [added], "backendRefs": [backend]}
    rules: list[Json] = [{"name": "other", **other}, {"backendRefs": [backend]}]
    return gateway_route("GRPCRoute", parent_of(shop), hostnames=[shop.host], rules=rules)


def virtual_service(shop: Shop, **spec: object) -> Json:
    """An HTTP route that sends elsewhere, and two for the Service, with things that a release has to keep."""
    web: Json = {"destination": {"host": "web", "port": {"number": 80}}}
    named = {"destination": {"host": inside(shop)}, "weight": 7}
    routes: list[Json] = [
        {"match": [{"headers": {"x-other": {"exact": "1"}}}], "redirect": {"authority": "other.example"}},
        {"name": "api", "match": [{"uri": {"prefix": "/api"}}], "route": [named], "rewrite": {"uri": "/"}},
        {"route": [web], "timeout": "20s", "retries": {"attempts": 0}},
    ]
    content = {"hosts": [shop.host, inside(shop)], "gateways": ["edge", "mesh"], "http": routes} | spec
    return {"apiVersion": ISTIO_API, "kind": "VirtualService", "metadata": {"name": "web"}, "spec": content}


def destination_rule() -> Json:
    """With a policy that the canary's Service must not lack."""
    policy = {"connectionPool": {"http": {"http1MaxPendingRequests": 500}}}
    subsets = [{"name": "all", "labels": {"app": "web"}}]
    spec = {"host": "web", "trafficPolicy": policy, "subsets": subsets}
    return {"apiVersion": ISTIO_API, "kind": "DestinationRule", "metadata": {"name": "web"}, "spec": spec}


def inside(shop: Shop) -> str:
    """The Service's own name in the mesh."""
    return f"web.{shop.namespace}.svc.cluster.local"
