"""What is asked of Prometheus: pods' raw counters, for many releases in one query, and policies' own queries.

Counters come as they stand, and the differences are made here (`counters`), as for pods that are asked directly:
`rate` and `increase` extrapolate, and give no whole counts. An answer's counters are as old as Prometheus' last
scrape; `timestamp()` tells how old, so that a look waits for the pods' next samples rather than seeing none (`ripe`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import aiohttp

from davylamp.signals.conventions import CONVENTIONS, Choice, Names
from davylamp.signals.counters import Seen
from davylamp.signals.exposition import Exposition
from davylamp.signals.prometheus import Access, Series, instant
from davylamp.signals.scrape import Scrape, Target

Pod = tuple[str, str]
"""Namespace and name."""
MOST_PODS = 500
"""In one query."""
_REPLICAS = ("job", "prometheus", "prometheus_replica", "replica", "cluster")
"""Labels that differ where the same pod is scraped twice."""
START = "process_start_time_seconds"


def metric_names(choice: Choice | None = None, names: Names | None = None) -> tuple[str, ...]:
    """The samples that `choice` reads; before there is one, all that a convention or the policy names."""
    found: list[str] = []
    if choice is None:
        found += [one.requests for one in CONVENTIONS]
        found += [f"{one.latency}_{end}" for one in CONVENTIONS if one.latency for end in ("bucket", "count")]
        found += [names.requests, names.failures, f"{names.latency}_bucket"] if names is not None else []
    else:
        found += [choice.errors.requests, choice.errors.failures] if choice.errors is not None else []
        found += [f"{choice.latency.latency}_bucket"] if choice.latency is not None else []
    return tuple(sorted({name for name in found if name and not name.startswith("_")} | {START}))


def selector(metrics: Iterable[str], pods: Iterable[Pod], to: Access) -> str:
    """PromQL for these series of these pods. Pods of like names in other namespaces are to be sorted out after."""
    listed = sorted(set(pods))
    wanted = {"__name__": metrics} | {
        to.namespace_label: [ns for ns, _ in listed],
        to.pod_label: [p for _, p in listed],
    }
    inner = ",".join(f'{label}=~"{alternatives(values)}"' for label, values in wanted.items())
    return f"{{{inner}}}"


def alternatives(values: Iterable[str]) -> str:
    """A regular expression for exactly these values, for use within quotes in PromQL."""
    return "|".join(sorted({re.sub(r"([^\w\-:])", r"[\1]", value) for value in values}))


def filled(query: str, *, namespace: str, stable: Iterable[str], canary: Iterable[str], window: float) -> str:
    """A policy's query with its variables replaced: $pods, $stable, $canary, $namespace, $window."""
    old, new = list(stable), list(canary)
    values = {
        "pods": alternatives(old + new),
        "stable": alternatives(old),
        "canary": alternatives(new),
        "namespace": namespace,
        "window": f"{max(1, round(window))}s",
    }
    return re.sub(r"\$(pods|stable|canary|namespace|window)\b", lambda found: values[found[1]], query)


def clock(choices: Iterable[Choice]) -> str:
    """The metric by whose samples the age of an answer is told: the first that these choices read; empty for none."""
    for choice in choices:
        if choice.errors is not None:
            return choice.errors.requests
        if choice.latency is not None:
            return f"{choice.latency.latency}_bucket"
    return ""


async def counters(
    session: aiohttp.ClientSession,
    to: Access,
    targets: Mapping[Pod, Target],
    metrics: Sequence[str],
    check: str,
    *,
    by: str = "",
) -> dict[Pod, Scrape]:
    """The series `metrics` of all pods, as if they had been scraped: one Scrape for each pod that has some, stamped
    with the time of its newest sample of the metric `by` (see `clock`), or of the query where that is not named.
    One or two queries for each MOST_PODS pods, however many releases they belong to.

    Raises as `prometheus.instant`.
    """
    found: dict[Pod, Scrape] = {}
    pods = sorted(targets)
    for first in range(0, len(pods), MOST_PODS):
        part = pods[first : first + MOST_PODS]
        by_pod: dict[Pod, list[Series]] = {}
        for one in await instant(session, to, selector(metrics, part, to), check):
            by_pod.setdefault(_pod(one, to), []).append(one)
        newest = {pod: series[0].values[-1][0] for pod, series in by_pod.items()}
        if by:
            # Of one metric only: timestamp() drops the name, and series must differ without it.
            labels = f"{to.namespace_label}, {to.pod_label}"
            times = f"max by ({labels}) (timestamp({selector([by], part, to)}))"
            newest |= {_pod(one, to): one.value for one in await instant(session, to, times, check)}
        for pod in part:
            if pod in by_pod:
                found[pod] = Scrape(targets[pod], newest[pod], to.address, _exposition(by_pod[pod], to))
    return found


def _pod(one: Series, to: Access) -> Pod:
    return one.labels.get(to.namespace_label, ""), one.labels.get(to.pod_label, "")


def _exposition(series: Iterable[Series], to: Access) -> Exposition:
    """One pod's series. Those of a second scraper of the same pod would count everything twice, and are left out;
    so is the process's start where the pod has several processes, since nobody knows which of them counts."""
    samples: dict[str, dict[str, float]] = {}
    notes: dict[str, None] = {}
    ignored = {*_REPLICAS, "__name__", to.pod_label, to.namespace_label}
    ordered = sorted(series, key=lambda one: [one.labels.get(label, "") for label in _REPLICAS])
    for one in ordered:
        name = one.labels.get("__name__", "")
        # instance and the like tell containers apart; the pod's own labels are the same for all.
        kept = {k: v for k, v in one.labels.items() if k not in ignored}
        key = "{" + ",".join(f'{k}="{_escaped(v)}"' for k, v in sorted(kept.items())) + "}"
        family = samples.setdefault(name, {})
        if key in family:
            notes[f"{name} is there twice, by two scrapers; one is left out"] = None
            continue
        family[key] = one.value
    if len(samples.get(START, {})) > 1:
        del samples[START]
    return Exposition(samples, notes=tuple(notes))


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def ripe(before: Mapping[str, Seen], now: Mapping[str, Seen], patience: float = 90.0) -> bool:
    """Is every pod's newest sample newer than at the last look? One whose sample is `patience` seconds older than
    the newest of all is not waited for: it counts as away (`fresh` leaves it out)."""
    newest = max((one.at for one in now.values()), default=0.0)
    waiting = [pod for pod, old in before.items() if pod in now and now[pod].at <= old.at]
    return bool(now) and all(newest - now[pod].at > patience for pod in waiting)


def fresh(before: Mapping[str, Seen], now: Mapping[str, Seen]) -> dict[str, Seen]:
    """The pods with a sample that is new since the last look."""
    return {pod: one for pod, one in now.items() if pod not in before or one.at > before[pod].at}
