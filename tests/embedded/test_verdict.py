"""A verdict on the embedded cluster: real processes under load, measured at their own /metrics over HTTP."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp

from davylamp.controller.looker import Lookers
from davylamp.controller.loop import Controller
from davylamp.controller.metrics import Metrics
from davylamp.embedded.client import Local
from davylamp.embedded.served import Served, served
from davylamp.kube.client import connect
from davylamp.kube.clock import SystemClock
from davylamp.kube.install import Options, install
from davylamp.signals.addresses import LOOPBACK
from tests.contract.workloads import service
from tests.embedded.test_served import endpoints, hello, settled, until

POLICY: dict[str, Any] = {
    "apiVersion": "davylamp.dev/v1alpha1",
    "kind": "ReleasePolicy",
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {
        "target": {"name": "web"},
        "traffic": {"service": "web", "settle": "1s"},
        "steps": [{"weight": 50, "hold": "1h"}, {"weight": 100}],
        "analysis": {"interval": "1s"},
    },
}


async def ask(here: Served) -> None:
    """A user of all pods, for as long as there are some."""
    async with aiohttp.ClientSession() as session:
        while True:
            for address, port in endpoints(here):
                try:
                    async with session.get(f"http://{address}:{port}/") as response:
                        await response.read()
                except aiohttp.ClientError:
                    continue
            await asyncio.sleep(0.01)


async def test_a_version_that_fails_is_found_at_its_own_metrics_and_taken_back(tmp_path: Path) -> None:
    async with served(tmp_path) as here:
        store, clock = here.cluster.store, SystemClock()
        await install(Local(store), Local(store, dry_run=True), Options(), clock)
        store.create(hello("v1"))
        store.create({**service(target="web"), "metadata": {"name": "web", "namespace": "default"}})
        store.create(POLICY)
        await until(here, lambda: settled(here) and len(endpoints(here)) == 2)
        async with connect(str(here.kubeconfigs["davylamp"])) as kube, asyncio.TaskGroup() as group:
            controller = Controller(kube, clock, Metrics(clock), lookers=Lookers(kube, LOOPBACK))
            tasks = [group.create_task(work) for work in (controller.watch(), controller.work(), ask(here))]

            def ready() -> bool:
                found = store.get("ReleasePolicy", "default", "web")
                conditions = (found or {}).get("status", {}).get("conditions", [])
                return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

            def release() -> dict[str, Any]:
                found = store.list("Release", "default")
                status: dict[str, Any] = found[0].get("status", {}) if found else {}
                return status

            await until(here, ready)
            bad = hello("v2", ERROR_RATE="0.8")["spec"]["template"]
            store.patch("Deployment", "default", "web", {"spec": {"template": bad}})
            await until(here, lambda: release().get("phase") in ("RolledBack", "Completed"), 60)
            assert release()["phase"] == "RolledBack"
            assert release()["end"]["reason"] == "Worse"
            assert release()["message"].startswith("errors ")
            for task in tasks:
                task.cancel()
