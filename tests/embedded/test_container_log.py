"""The reading end of a container's output."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from davylamp.embedded.kubelet.logs import ContainerLog


@pytest.mark.parametrize("later", range(5))
async def test_who_waits_for_its_end_can_be_cancelled_in_the_moment_of_it(tmp_path: Path, later: int) -> None:
    """A pod that is deleted while its container crashes: it would be started again, for ever."""
    log = ContainerLog(tmp_path / "0.log")
    waiting = asyncio.create_task(log.ended(within=60))
    for _ in range(3):
        await asyncio.sleep(0)
    log.connection_lost(None)
    for _ in range(later):
        await asyncio.sleep(0)
    in_time = waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert waiting.cancelled() == in_time
