"""Workloads in bulk, the controller as a process, and what the API server and the kernel say about it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from davylab import Lab

from davylamp.kube.client import connect
from davylamp.kube.protocol import Api

Json = dict[str, Any]
T = TypeVar("T")

USER = "system:serviceaccount:davylamp-system:davylamp"
DAVY = Path(sys.executable).with_name("davy")


class Controller:
    """`davy controller` as its service account, from start to stop."""

    def __init__(self, lab: Lab) -> None:
        self.began = time.monotonic()
        log = (lab.state / "bench-controller.log").open("wb")
        self.port = 18080
        self.process = lab.spawn(
            [DAVY, "controller", "--listen", f"127.0.0.1:{self.port}"],
            kubeconfig=lab.kubeconfig_of("davylamp", inside=True),
            stdout=log,
            stderr=log,
        )
        self.lab = lab

    def ready(self) -> bool:
        """/readyz, asked inside the namespace."""
        probe = f"import urllib.request as u; u.urlopen('http://127.0.0.1:{self.port}/readyz', timeout=2)"
        return bool(self.lab.spawn([sys.executable, "-c", probe], stderr=-3).wait() == 0)

    def cpu(self) -> float:
        """Seconds of CPU that the process has used, user and system (proc_pid_stat(5), fields 14 and 15)."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> float:
        """Resident megabytes (VmRSS of proc_pid_status(5))."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)


def davy(lab: Lab, *args: str) -> None:
    import subprocess

    subprocess.run([DAVY, *args, "--kubeconfig", lab.kubeconfig], check=True, stdout=subprocess.DEVNULL)


class Audit:
    """The API server's own count of what one user (None: anybody) asked of it."""

    def __init__(self, lab: Lab, user: str | None = USER) -> None:
        self.file = Path(str(lab.info.audit_log))
        self.user = user
        self.offset = self.file.stat().st_size

    def counts(self) -> tuple[Counter[str], Counter[str]]:
        """Writes and reads since the start, each as "verb resource"; watches are neither."""
        writes: Counter[str] = Counter()
        reads: Counter[str] = Counter()
        with self.file.open("rb") as file:
            file.seek(self.offset)
            for line in file:
                event = json.loads(line)
                if self.user not in (None, event["user"]["username"]) or event.get("stage") != "ResponseComplete":
                    continue
                ref = event.get("objectRef", {})
                what = f"{event['verb']} {ref.get('resource', event['requestURI'])}"
                what += f"/{ref['subresource']}" if "subresource" in ref else ""
                if event["verb"] in ("create", "update", "patch", "delete", "deletecollection"):
                    writes[what] += 1
                elif event["verb"] != "watch":
                    reads[what] += 1
        return writes, reads


async def with_api(lab: Lab, work: Callable[[Api], Awaitable[T]]) -> T:
    """Run `work` with a client of the admin, through the relay."""
    async with connect(str(lab.kubeconfig)) as api:
        return await work(api)


async def in_parallel(work: Iterable[Awaitable[Any]], width: int = 16) -> list[Any]:
    """Await all, at most `width` at a time, in order."""
    limit = asyncio.Semaphore(width)

    async def one(item: Awaitable[Any]) -> Any:
        async with limit:
            return await item

    return list(await asyncio.gather(*(one(item) for item in work)))


def workload(name: str, namespace: str, replicas: int, image: str = "pause:1", *, routed: bool = False) -> list[Json]:
    """A Deployment, its Service (and Ingress), its policy."""
    labels = {"app": name}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "main", "image": image}]},
            },
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]},
    }
    backend = {"service": {"name": name, "port": {"number": 80}}}
    paths = [{"path": "/", "pathType": "Prefix", "backend": backend}]
    ingress = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"ingressClassName": "nginx", "rules": [{"host": f"{name}.example", "http": {"paths": paths}}]},
    }
    traffic: Json = {"service": name}
    if routed:
        traffic["routes"] = [{"ingress": {"name": name}}]
    policy = {
        "apiVersion": "davylamp.dev/v1alpha1",
        "kind": "ReleasePolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "target": {"name": name},
            "traffic": traffic,
            "steps": [{"weight": 10, "hold": "1h"}, {"weight": 50}],
        },
    }
    return [deployment, service, *([ingress] if routed else []), policy]


def namespace(name: str) -> Json:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value with at least this share of all at or below it."""
    ordered = sorted(values)
    return ordered[max(0, min(len(ordered) - 1, int(share * len(ordered) + 0.999999) - 1))]


def table(title: str, rows: Sequence[Sequence[str]]) -> None:
    """Print rows as a Markdown table, the first as its head."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    print(f"\n{title}\n")
    for number, row in enumerate(rows):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")
        if number == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")
    sys.stdout.flush()
