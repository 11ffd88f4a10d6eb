"""`python -m davylamp.embedded --state DIR`: an embedded cluster until SIGTERM, SIGINT or the end of stdin.

When it is ready it writes one line of JSON: its address, its kubeconfig files by user.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from pathlib import Path

from davylamp.embedded.served import served


async def run(state: Path, *, port: int, end_with_stdin: bool, restart_cap: float) -> None:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    if end_with_stdin:
        await loop.connect_read_pipe(lambda: _UntilEnd(stopping), sys.stdin)
    async with served(state, port=port, restart_cap=restart_cap) as here:
        files = {short: str(path) for short, path in here.kubeconfigs.items()}
        print(json.dumps({"address": here.address, "kubeconfigs": files}), flush=True)
        await stopping.wait()


class _UntilEnd(asyncio.Protocol):
    def __init__(self, ended: asyncio.Event) -> None:
        self._ended = ended

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended.set()


def main() -> None:
    parser = argparse.ArgumentParser(prog="davylamp.embedded")
    parser.add_argument("--state", type=Path, required=True, help="a folder for kubeconfigs and logs")
    parser.add_argument("--port", type=int, default=0, help="of the API server; 0 takes any")
    parser.add_argument("--restart-cap", type=float, default=10.0, help="longest back-off of a crash loop, in seconds")
    parser.add_argument("--end-with-stdin", action="store_true", help="end when stdin does")
    args = parser.parse_args()
    asyncio.run(
        run(args.state.resolve(), port=args.port, end_with_stdin=args.end_with_stdin, restart_cap=args.restart_cap)
    )


if __name__ == "__main__":
    main()
