"""What the controller answers over HTTP: /healthz, /readyz, /metrics, and what users say: POST /feedback."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import AsyncIterator, Sequence

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from davylamp.controller.loop import Controller
from davylamp.controller.metrics import Metrics
from davylamp.signals.addresses import Network
from davylamp.signals.feedback import Box, routes

STUCK = 120.0
"""Seconds of work on one key after which a worker counts as stuck; each of its requests gives up after 30."""


@contextlib.asynccontextmanager
async def serving(
    listen: str, controller: Controller, metrics: Metrics, proxies: Sequence[Network] = ()
) -> AsyncIterator[tuple[str, int]]:
    """Listen on `listen` (`host:port`, `:port` for every address) while the block runs; gives the address. `proxies`
    are those whose X-Forwarded-For is believed.

    Raises OSError where that isn't possible, ValueError where `listen` is no address.
    """
    host, port = _address(listen)
    app = web.Application()
    app.add_routes(
        [
            web.get("/healthz", functools.partial(_healthz, controller)),
            web.get("/readyz", functools.partial(_readyz, controller)),
            web.get("/metrics", functools.partial(_metrics, controller, metrics)),
            *routes(functools.partial(_box, controller), time.time, proxies),
        ]
    )
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        bound = runner.addresses[0]
        yield (bound[0], bound[1])
    finally:
        await runner.cleanup()


def _address(listen: str) -> tuple[str | None, int]:
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdigit():
        raise ValueError(f'"{listen}" is not an address to listen on: write for example :8080 or 127.0.0.1:8080')
    return host.strip("[]") or None, int(port)


async def _healthz(controller: Controller, request: web.Request) -> web.Response:
    """That this is answered shows that the event loop runs."""
    seconds = controller.queue.oldest_work
    if seconds > STUCK:
        return web.Response(status=500, text=f"a worker has been busy with one key for {seconds:.0f} s\n")
    return web.Response(text="ok\n")


async def _readyz(controller: Controller, request: web.Request) -> web.Response:
    """Ready is whoever knows everything, also while another process leads."""
    if controller.synced.is_set():
        return web.Response(text="ok\n")
    missing = ", ".join(controller.unsynced)
    return web.Response(status=503, text=f"not in sync yet: {missing}\n")


def _box(controller: Controller, namespace: str, deployment: str) -> Box | None:
    """Votes are kept by the process that leads; another one can't take them, and says so."""
    if not controller.working:
        text = "another replica of the controller leads; send it again\n"
        raise web.HTTPServiceUnavailable(text=text, headers={"Retry-After": "5"})
    return controller.analyst.box(namespace, deployment)


async def _metrics(controller: Controller, metrics: Metrics, request: web.Request) -> web.Response:
    metrics.queue_depth.set(len(controller.queue))
    return web.Response(body=metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})
