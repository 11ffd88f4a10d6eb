"""Whole releases on the real control plane, under real traffic: how soon bad ones are found, whether good ones pass.

Each release has a namespace of its own with four pods of hellok8s that fail one request in a thousand, 100 requests a
second through Traefik, `analysis: {}` and 10 % to the canary. A bad version fails one in a hundred. The time is from
the first answer of the canary to the last one, as the clients count them.
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
from davylab import Lab

from bench.lab import table
from tests.cluster.shop import Controller, Shop, Traffic, davy

BASE, BAD = "0.001", "0.01"
PATIENCE = 600.0
"""Seconds after which a release counts as not decided."""
OLD, NEW = "hellok8s:v1", "hellok8s:v2"


class Outcome(msgspec.Struct, frozen=True):
    phase: str
    seconds: float
    """From the canary's first answer to its last; for a version that completes, to the end of the release."""
    message: str


def run(releases: int = 10, at_once: int = 2) -> None:
    """`releases` bad and as many good ones, `at_once` at the same time."""
    with Lab(traefik=True) as lab, tempfile.TemporaryDirectory() as logs:
        davy(lab, "install")
        with Controller(lab, Path(logs) / "controller.log"), ThreadPoolExecutor(at_once) as pool:
            numbers = range(releases)
            bad = list(pool.map(lambda number: _release(lab, f"bad-{number}", BAD), numbers))
            good = list(pool.map(lambda number: _release(lab, f"good-{number}", BASE), numbers))
    found = [one.seconds for one in bad if one.phase == "RolledBack"]
    times = f"{statistics.median(found):.0f} s ({min(found):.0f} to {max(found):.0f})" if found else "-"
    passed = sum(one.phase == "Completed" for one in good)
    table(
        f"{releases} bad releases (0.1 -> 1 % errors) and {releases} good ones, 100 requests/s, 10 % to the canary",
        [
            ("bad: taken back", "traffic to the canary, median (range)", "good: completed", "good: taken back"),
            (
                f"{len(found)} of {releases}",
                times,
                f"{passed} of {releases}",
                str(sum(one.phase == "RolledBack" for one in good)),
            ),
        ],
    )


_starting = threading.Lock()


def _release(lab: Lab, namespace: str, error_rate: str) -> Outcome:
    shop = Shop(lab, namespace)
    shop.kubectl("create", "namespace", namespace)
    shop.open(OLD, ERROR_RATE=BASE)
    with _starting:
        traffic = Traffic(shop)
    shop.policy({"weight": 10, "replicas": 2, "hold": "90s"}, {"weight": 100}, analysis={"leaveWhen": "notWorse"})
    container = {"name": "hellok8s", "image": NEW, "env": [{"name": "ERROR_RATE", "value": error_rate}]}
    patch = {"spec": {"template": {"spec": {"containers": [container]}}}}
    if error_rate == BAD:
        shop.kubectl(
            "patch", "releasepolicy", "web", "--type=merge", "-p", '{"spec":{"analysis":{"leaveWhen":"held"}}}'
        )
    shop.kubectl("patch", "deployment", "web", "-p", msgspec.json.encode(patch).decode())
    outcome = _watched(shop, traffic)
    traffic.load.stop()
    print(f"{namespace}: {outcome.phase} after {outcome.seconds:.0f} s: {outcome.message}", flush=True)
    shop.close()
    return outcome


def _watched(shop: Shop, traffic: Traffic) -> Outcome:
    first = last = 0.0
    answers = 0
    began = time.monotonic()
    while time.monotonic() - began < PATIENCE:
        now = time.monotonic()
        if (seen := traffic.load.snapshot().by_version["v2"]) > answers:
            first, last, answers = first or now, now, seen
        phase = shop.phase(NEW)
        if phase in ("RolledBack", "Completed"):
            end = last if phase == "RolledBack" else now
            return Outcome(phase, end - first, shop.release(NEW)["status"]["message"])
        time.sleep(1)
    return Outcome("undecided", PATIENCE, shop.release(NEW).get("status", {}).get("message", ""))
