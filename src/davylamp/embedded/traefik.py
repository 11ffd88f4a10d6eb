"""Traefik, from its wheel, as the controller of Ingresses of class nginx."""

from __future__ import annotations

from typing import Any

from davylamp.embedded.wheels import program

INGRESS_CLASS = "nginx"


def command(web: str, admin: str, *, throttle: float | None = None, status_address: str = "") -> list[str]:
    """Traefik's command line. The cluster is that of the environment's KUBECONFIG.

    ``web`` and ``admin`` (/ping, /metrics, /api/rawdata) are ADDRESS:PORT, never 0.0.0.0, which would take the port
    from every pod. ``throttle``: the least seconds between two configurations (Traefik: 2).
    ``status_address`` is written into the status of Ingresses.
    """
    args = [
        str(program("traefik")),
        f"--entrypoints.web.address={web}",
        f"--entrypoints.traefik.address={admin}",
        "--entrypoints.web.transport.lifecycle.gracetimeout=1s",
        "--api.insecure=true",
        "--ping=true",
        "--metrics.prometheus=true",
        "--metrics.prometheus.addservicesLabels=true",
        "--global.checknewversion=false",
        "--global.sendanonymoususage=false",
        "--log.level=INFO",
        "--providers.kubernetesingressnginx=true",
    ]
    if status_address:
        args.append(f"--providers.kubernetesingressnginx.publishstatusaddress={status_address}")
    if throttle is not None:
        args.append(f"--providers.kubernetesingressnginx.throttleduration={throttle}s")
    return args


def ingress_class() -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IngressClass",
        "metadata": {"name": INGRESS_CLASS},
        "spec": {"controller": "k8s.io/ingress-nginx"},
    }
