"""Starting, stopping and waiting for child processes that must not outlive us."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
import sys

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def die_with_parent() -> None:
    """For `preexec_fn` on Linux: the kernel kills the child when the thread that started it ends, however it does."""
    assert _libc is not None
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


async def exited(process: subprocess.Popen[bytes]) -> int:
    """Waits for the end; returns the exit code, negative for a signal as `Popen` has it."""
    if (code := process.poll()) is not None:
        return code
    if sys.platform != "linux":
        return await asyncio.to_thread(process.wait)
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    handle = os.pidfd_open(process.pid)
    loop.add_reader(handle, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(handle)
        os.close(handle)
    return process.wait()


async def stop(process: subprocess.Popen[bytes], grace: float) -> int:
    """SIGTERM, then after ``grace`` seconds SIGKILL."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(grace):
            return await exited(process)
    except TimeoutError:
        process.kill()
        return await exited(process)
