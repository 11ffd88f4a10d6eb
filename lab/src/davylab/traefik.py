"""Traefik as the lab's ingress controller: how it is started, and the objects that it needs."""

from __future__ import annotations

from typing import Any

import yaml

from davylab import binaries
from davylab.namespace import TRAEFIK_ADDRESS
from davylab.wheels import program

WEB_PORT = 80
ADMIN_PORT = 9000  # /ping, /metrics and /api/rawdata
INGRESS_CLASS = "nginx"


def command(*, throttle: float | None, gateway: bool) -> list[str]:
    """Traefik's command line. ``throttle``: the least seconds between two configurations (Traefik: 2).

    It binds one address, never 0.0.0.0, which would take the port from every pod.
    """
    args = [
        str(program("traefik")),
        f"--entrypoints.web.address={TRAEFIK_ADDRESS}:{WEB_PORT}",
        f"--entrypoints.traefik.address={TRAEFIK_ADDRESS}:{ADMIN_PORT}",
        "--entrypoints.web.transport.lifecycle.gracetimeout=1s",
        "--api.insecure=true",
        "--ping=true",
        "--metrics.prometheus=true",
        "--metrics.prometheus.addservicesLabels=true",
        "--global.checknewversion=false",
        "--global.sendanonymoususage=false",
        "--log.level=INFO",
        "--providers.kubernetesingressnginx=true",
        f"--providers.kubernetesingressnginx.publishstatusaddress={TRAEFIK_ADDRESS}",
    ]
    if throttle is not None:
        args.append(f"--providers.kubernetesingressnginx.throttleduration={throttle}s")
    if gateway:
        args.append("--providers.kubernetesgateway=true")
        args.append(f"--providers.kubernetesgateway.statusaddress.ip={TRAEFIK_ADDRESS}")
        if throttle is not None:
            args.append(f"--providers.kubernetesgateway.throttleduration={throttle}s")
    return args


def ingress_class() -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IngressClass",
        "metadata": {"name": INGRESS_CLASS},
        "spec": {"controller": "k8s.io/ingress-nginx"},
    }


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
