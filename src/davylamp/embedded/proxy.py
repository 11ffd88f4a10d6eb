"""pods/proxy: a request that the API server passes on to a pod, which is a process on loopback."""

from __future__ import annotations

import ipaddress
from typing import Any

import aiohttp
import msgspec
from aiohttp import web

from davylamp.embedded import status
from davylamp.embedded.kubelet.model import PORTS
from davylamp.embedded.routes import Place
from davylamp.embedded.status import StatusError
from davylamp.embedded.store import Object, Store

TIMEOUT = aiohttp.ClientTimeout(total=60)
HOP = {"connection", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "content-length"}
"""Headers of one connection, and those that say who asks or how much."""
SECRET = {"authorization", "cookie", "impersonate-user", "impersonate-group"}
"""Headers that no pod is told."""


class Target(msgspec.Struct, frozen=True):
    address: str
    port: int


def target(store: Store, where: Place) -> Target:
    """Where a pod is reached: `NAME`, `NAME:PORT` or `http:NAME:PORT`, without a port its first one.

    Raises StatusError 404 for no such pod, 501 for one that is imagined or that speaks TLS, 503 for one that isn't up.
    """
    scheme, name, port = _named(where.name)
    pod = store.get("Pod", where.namespace, name)
    if pod is None:
        raise status.not_found("", "pods", name)
    if scheme == "https":
        raise status.not_implemented("pods/proxy to a port that speaks TLS")
    address = str((pod.get("status") or {}).get("podIP", ""))
    number = _number(pod, port)
    if not address or number is None:
        raise StatusError(503, "ServiceUnavailable", f"error trying to reach service: pod {name} has no such port yet")
    if not ipaddress.ip_address(address).is_loopback:
        raise status.not_implemented(f"pods/proxy to pod {name}, which is imagined: there is no process behind it")
    shared = msgspec.json.decode((pod["metadata"].get("annotations") or {}).get(PORTS, "{}"))
    return Target(address, int(shared.get(str(number), number)))


def _named(text: str) -> tuple[str, str, str]:
    parts = text.split(":")
    if len(parts) == 3:
        return parts[0], parts[1], parts[2]
    return "", parts[0], parts[1] if len(parts) == 2 else ""


def _number(pod: Object, port: str) -> int | None:
    """The port's number; that of its name; without one that of the first container port, else 80."""
    if port.isdigit():
        return int(port)
    ports = [found for container in pod["spec"]["containers"] for found in container.get("ports") or ()]
    if not port:
        return int(ports[0]["containerPort"]) if ports else 80
    return next((int(found["containerPort"]) for found in ports if found.get("name") == port), None)


async def passed_on(request: web.Request, to: Target, path: str) -> web.StreamResponse:
    """The pod's answer, whatever it is. Raises StatusError 503 where none comes."""
    url = f"http://{to.address}:{to.port}{path or '/'}"
    headers = {key: value for key, value in request.headers.items() if key.lower() not in HOP | SECRET}
    body: Any = await request.read() or None
    try:
        async with (
            aiohttp.ClientSession(timeout=TIMEOUT, auto_decompress=False) as session,
            session.request(
                request.method, url, params=request.query, headers=headers, data=body, allow_redirects=False
            ) as answer,
        ):
            kept = {key: value for key, value in answer.headers.items() if key.lower() not in HOP}
            return web.Response(body=await answer.read(), status=answer.status, headers=kept)
    except (aiohttp.ClientError, TimeoutError) as error:
        raise StatusError(503, "ServiceUnavailable", f"error trying to reach service: {error}") from error
