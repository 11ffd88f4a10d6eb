"""The lab as the stage of Davylamp's demo."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from davylab.lab import Lab

THROTTLE = 0.5
"""Seconds between two configurations of Traefik: the demo is short."""


@contextlib.asynccontextmanager
async def stage(say: Callable[[str], None]) -> AsyncIterator[Lab]:
    """A lab with Traefik, which ends with the block. Raises LabError."""
    say("A real control plane (etcd, API server, controllers, Traefik) starts in a network namespace ...")
    lab = await asyncio.to_thread(Lab, traefik=True, throttle=THROTTLE)
    try:
        yield lab
    finally:
        await asyncio.to_thread(lab.stop)
