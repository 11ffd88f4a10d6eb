"""`python -m davylab.kubelet`: the kubelet of the lab, started by the supervisor inside the namespace."""

from __future__ import annotations

import argparse
import asyncio
import os
import py_compile
import signal
import ssl
import sys
from pathlib import Path

from aiohttp import web
from davylamp.embedded import hellok8s
from davylamp.embedded.kubelet.agent import PORT, Agent, serve
from davylamp.embedded.kubelet.network import Network
from davylamp.embedded.kubelet.pod import Settings

from davylab.api import connect
from davylab.identity import KUBELET, Paths


def network(nodes: int) -> Network:
    """The pods' part of the namespace's network."""
    return Network({f"node-{i + 1}": f"10.244.0.{10 + i}" for i in range(nodes)}, "10.244.1.1", "10.244.255.255")


async def run(state: Path, nodes: int, restart_cap: float) -> None:
    """Until SIGTERM. The pods' processes end with us."""
    paths = Paths(state)
    compiled = py_compile.compile(hellok8s.__file__, cfile=str(state / "hellok8s.pyc"), doraise=True)
    assert compiled
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with connect(paths.kubeconfig(KUBELET, inside=True), paths.certificate) as api:
        settings = Settings(api, [sys.executable, "-S", "-E", "-P", compiled], state / "pods", restart_cap)
        agent = Agent(settings, network(nodes))
        app = web.Application()
        app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", agent.container_logs)
        server = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await server.setup()
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(paths.certificate, paths.key)
        for address in agent.nodes.values():
            await web.TCPSite(server, address, PORT, ssl_context=tls).start()
        serving = asyncio.create_task(serve(agent))
        ended = asyncio.create_task(stopping.wait())
        await asyncio.wait([serving, ended], return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()  # raises what ended it
        for runner in agent.runners.values():
            runner.kill()
        os._exit(0)  # the lab ends: there is nobody to tell how the pods end


def main() -> None:
    parser = argparse.ArgumentParser(prog="davylab.kubelet")
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--restart-cap", type=float, default=10.0)
    args = parser.parse_args()
    asyncio.run(run(args.state, args.nodes, args.restart_cap))


if __name__ == "__main__":
    main()
