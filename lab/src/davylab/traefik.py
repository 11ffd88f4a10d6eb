"""Traefik as the lab's ingress controller: how it is started, and the objects that Gateway API needs."""

from __future__ import annotations

from typing import Any

import yaml
from davylamp.embedded import traefik

from davylab import binaries
from davylab.namespace import TRAEFIK_ADDRESS

PORT = 80
WEB = f"{TRAEFIK_ADDRESS}:{PORT}"
ADMIN = f"{TRAEFIK_ADDRESS}:9000"


def command(*, throttle: float | None, gateway: bool) -> list[str]:
    """Traefik's command line. ``throttle``: the least seconds between two configurations (Traefik: 2)."""
    args = traefik.command(WEB, ADMIN, throttle=throttle, status_address=TRAEFIK_ADDRESS)
    if gateway:
        args.append("--providers.kubernetesgateway=true")
        args.append(f"--providers.kubernetesgateway.statusaddress.ip={TRAEFIK_ADDRESS}")
        if throttle is not None:
            args.append(f"--providers.kubernetesgateway.throttleduration={throttle}s")
    return args


def gateway_crds() -> list[dict[str, Any]]:
    """The standard channel's CRDs, from the module in Go's module cache; the first time it is downloaded."""
    folder = binaries.module_folder("gateway-api") / "config" / "crd" / "standard"
    documents = [doc for path in sorted(folder.glob("*.yaml")) for doc in yaml.safe_load_all(path.read_text())]
    return [doc for doc in documents if doc and doc["kind"] == "CustomResourceDefinition"]


def gateway_class() -> dict[str, Any]:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "GatewayClass",
        "metadata": {"name": "traefik"},
        "spec": {"controllerName": "traefik.io/gateway-controller"},
    }
