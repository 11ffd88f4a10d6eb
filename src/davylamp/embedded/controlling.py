"""Davylamp's controller as a task of the process that has the cluster."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from davylamp.controller.loop import Controller


@contextlib.asynccontextmanager
async def running(controller: Controller) -> AsyncIterator[None]:
    """The controller watches and works until the block is left, and then writes nothing more."""
    tasks = [asyncio.create_task(controller.watch()), asyncio.create_task(controller.work())]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
