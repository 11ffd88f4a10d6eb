"""`python -m bench simulate [--runs N]`: how long simulated releases of a one-hour policy take.

A good version, which is looked at most, is simulated twice: with the statistics as they are, and compiled by numba.
"""

from __future__ import annotations

import os
import resource
import time

from bench.lab import table
from davylamp.embedded.simulate import many
from davylamp.embedded.simulate.scenario import Moment, Scenario
from davylamp.embedded.simulate.stage import read
from davylamp.embedded.simulate.summary import distribution

POLICY = """\
apiVersion: davylamp.dev/v1alpha1
kind: ReleasePolicy
metadata: {name: web}
spec:
  target: {name: web}
  traffic: {service: web, routes: [{ingress: {name: web}}]}
  steps:
    - {weight: 10, hold: 20m}
    - {weight: 50, hold: 20m}
    - {weight: 100, hold: 20m}
"""
JUDGED = "  analysis: {}\n"
BAD = Scenario((Moment(0, 100, 0.001, 0.01),))


def run(runs: int) -> None:
    """Each kind of release `runs` times on all cores; the longest without a compiler a tenth of that."""
    rows: list[tuple[str, ...]] = [("", "runs", "seconds", "CPU seconds a run", "taken back", "completed")]
    for name, policy, scenario, count, compiled in (
        ("pods' health only", POLICY, Scenario(), runs, False),
        ("compared, a good version, not compiled", POLICY + JUDGED, Scenario(), max(runs // 10, 1), False),
        ("compared, a good version, compiled", POLICY + JUDGED, Scenario(), runs, True),
        ("compared, 1 % of the new version's fail, compiled", POLICY + JUDGED, BAD, runs, True),
    ):
        stage = read(policy)
        began, used = time.perf_counter(), _cpu()
        found = distribution(many.outcomes(stage, scenario, 1, count, compiled=compiled))
        seconds, cpu = time.perf_counter() - began, _cpu() - used
        counts = (str(found.taken_back.count), str(found.completed.count))
        rows.append((name, str(count), f"{seconds:.1f}", f"{cpu / count:.3f}", *counts))
    load = os.getloadavg()[0]
    table(f"Simulated releases of a one-hour policy, {os.cpu_count()} cores, load {load:.1f} at the end", rows)


def _cpu() -> float:
    """Seconds of this process and of those that have ended."""
    ours, theirs = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return ours.ru_utime + ours.ru_stime + theirs.ru_utime + theirs.ru_stime
