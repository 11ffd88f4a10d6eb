"""The embedded cluster as the stage of the demo: with Traefik in front of it, and processes beside its pods."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp

from davylamp.embedded import traefik
from davylamp.embedded.errors import EmbeddedError
from davylamp.embedded.kubelet.network import LOOPBACK, free_ports
from davylamp.embedded.process import die_with_parent, stop
from davylamp.embedded.served import served
from davylamp.embedded.wheels import PROGRAMS, program

THROTTLE = 0.5
"""Seconds between two configurations of Traefik: the demo is short."""
READY = 30.0
"""Seconds that Traefik may take to start."""
GRACE = 3.0
"""Seconds that a process may take to end."""


class Embedded:
    """Everybody is on this machine's loopback, so inside and outside are the same."""

    def __init__(self, state: Path, kubeconfigs: Mapping[str, Path], traefik_url: str) -> None:
        self.state = state
        self.kubeconfig = kubeconfigs["admin"]
        self.controller_kubeconfig = kubeconfigs["davylamp"]
        self.traefik_kubeconfig = kubeconfigs["traefik"]
        self.traefik_url = self.inside_traefik_url = traefik_url
        self.children: list[subprocess.Popen[Any]] = []

    def spawn(
        self,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        kubeconfig: Path | None = None,
        **popen: Any,
    ) -> subprocess.Popen[Any]:
        """In a process group of its own: Ctrl-C is for us, and we end what we started in our order."""
        child: subprocess.Popen[Any] = subprocess.Popen(
            list(map(str, command)),
            env={**os.environ, "KUBECONFIG": str(kubeconfig or self.kubeconfig), **(env or {})},
            start_new_session=True,
            preexec_fn=die_with_parent if sys.platform == "linux" else None,
            **popen,
        )
        self.children.append(child)
        return child

    async def end(self) -> None:
        """Ends what was spawned, the latest first."""
        while self.children:
            await stop(self.children.pop(), GRACE)


@contextlib.asynccontextmanager
async def stage(say: Callable[[str], None], throttle: float = THROTTLE) -> AsyncIterator[Embedded]:
    """A cluster in this process with Traefik, which ends with the block. Raises EmbeddedError."""
    for name in PROGRAMS:
        program(name)
    say("A cluster starts in this process, with Traefik in front of it ...")
    async with contextlib.AsyncExitStack() as stack:
        state = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="davy-demo-", ignore_cleanup_errors=True)))
        stack.enter_context(_logged_to(state / "cluster.log"))
        here = await stack.enter_async_context(served(state))
        here.cluster.store.create(traefik.ingress_class())
        web, admin = (f"{LOOPBACK}:{port}" for port in free_ports(LOOPBACK, 2))
        embedded = Embedded(state, here.kubeconfigs, f"http://{web}/")
        stack.push_async_callback(embedded.end)
        await _start_traefik(embedded, web, admin, throttle)
        yield embedded


@contextlib.contextmanager
def _logged_to(file: Path) -> Iterator[None]:
    """What the cluster has to say, which is no part of the show."""
    logger, handler = logging.getLogger("davylamp.embedded"), logging.FileHandler(file)
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.propagate = True
        logger.removeHandler(handler)
        handler.close()


async def _start_traefik(embedded: Embedded, web: str, admin: str, throttle: float = THROTTLE) -> None:
    log = embedded.state / "traefik.log"
    with log.open("wb") as out:
        command = traefik.command(web, admin, throttle=throttle)
        process = embedded.spawn(command, kubeconfig=embedded.traefik_kubeconfig, stdout=out, stderr=out)
    async with aiohttp.ClientSession() as session, asyncio.timeout(READY):
        while True:
            if process.poll() is not None:
                raise EmbeddedError(f"Traefik has ended: {log.read_text()[-1000:].strip()}")
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(f"http://{admin}/ping") as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(0.05)
