"""The controller as a process: what `davy controller` runs."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
import secrets
import signal
import socket
from collections.abc import Coroutine
from typing import Any, Literal

import msgspec

from davylamp import __version__
from davylamp.controller.addressed import Counting
from davylamp.controller.logs import Format, set_up
from davylamp.controller.looker import Lookers
from davylamp.controller.loop import Controller
from davylamp.controller.metrics import Metrics
from davylamp.controller.serve import serving
from davylamp.core.actions import Ref
from davylamp.core.world import Gate
from davylamp.kube.client import Kube, connect
from davylamp.kube.clock import Clock, SystemClock
from davylamp.kube.lease import Election
from davylamp.signals.addresses import networks

LEASE_NAME = "davylamp"
AT_THE_START = 30.0
"""Seconds that reading everything may take without the garbage collector."""
M_MMAP_THRESHOLD, LARGE = -3, 128 * 1024
"""mallopt(3): blocks from this many bytes on are given back to the system as soon as they are freed."""

log = logging.getLogger(__name__)


class Options(msgspec.Struct, frozen=True):
    kubeconfig: str | None = None
    context: str | None = None
    namespaces: tuple[str, ...] = ()
    """Those to serve; empty: all."""
    listen: str = ":8080"
    """Where /healthz, /readyz and /metrics are; empty: nowhere."""
    leader_elect: bool = False
    """Work only while holding a Lease, so that several may run."""
    lease_namespace: str = "davylamp-system"
    gate: Gate | Literal["auto"] = "auto"
    """How templates are kept from rolling; `auto`: as the API server can."""
    log_format: Format = "text"
    events: Literal["few", "steps"] = "few"
    """`steps`: Events tell of each beginning and each step too."""
    workers: int = 64
    allow_addresses: tuple[str, ...] = ()
    """Networks to which policies may lead against the rule (loopback, link-local, metadata), as 127.0.0.0/8."""
    proxies: tuple[str, ...] = ()
    """Networks of proxies before /feedback whose X-Forwarded-For is believed."""


async def run(options: Options) -> None:
    """Until SIGTERM or SIGINT, then stops within two seconds.

    Raises ConfigProblem where the way to the cluster can't be made out, OSError or ValueError where `listen` can't be
    listened on, ValueError for a network that is none. A cluster that can't be reached is waited for.
    """
    give_back_large_blocks()
    allowed, proxies = networks(options.allow_addresses), networks(options.proxies)
    set_up(options.log_format)
    clock = SystemClock()
    metrics = Metrics(clock)
    identity = f"{socket.gethostname()}_{secrets.token_hex(4)}"
    async with contextlib.AsyncExitStack() as stack:
        kube = await stack.enter_async_context(
            connect(options.kubeconfig, options.context, on_request=metrics.on_request)
        )
        controller = Controller(
            kube,
            clock,
            metrics,
            namespaces=options.namespaces,
            gate=options.gate,
            workers=options.workers,
            instance=identity,
            every_step=options.events == "steps",
            lookers=Lookers(kube, allowed),
            counters=Counting(allowed),
        )
        if options.listen:
            host, port = await stack.enter_async_context(serving(options.listen, controller, metrics, proxies))
            log.info("listening on %s port %s", host, port)
        log.info("davylamp %s on %s (%s)", __version__, kube.target.server, kube.target.where)
        await _until_told_to_stop(_control(controller, kube, clock, options, identity))


def give_back_large_blocks() -> None:
    """Keep malloc from holding on to the 256 KB of each closed connection (asyncio.sslproto), if it is glibc's.

    glibc's own threshold begins at 128 KB, but rises to the size of any larger block that is freed.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGE)


async def _control(controller: Controller, kube: Kube, clock: Clock, options: Options, identity: str) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(controller.watch())
        group.create_task(_settle(controller))
        if options.leader_elect:
            ref = Ref("Lease", options.lease_namespace, LEASE_NAME)
            await Election(kube, clock, ref, identity).run(controller.work)
        else:
            await controller.work()


async def _settle(controller: Controller) -> None:
    """What is read at the start stays for long: keep the garbage collector from walking through it again and again."""
    gc.disable()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(AT_THE_START):
            await controller.synced.wait()
    gc.collect()
    gc.freeze()
    gc.enable()


async def _until_told_to_stop(control: Coroutine[Any, Any, None]) -> None:
    task = asyncio.create_task(control)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop, task, number)
    try:
        await task
    except asyncio.CancelledError:
        log.info("stopped")


def _stop(task: asyncio.Task[None], number: signal.Signals) -> None:
    log.info("%s: stopping", number.name)
    task.cancel()
