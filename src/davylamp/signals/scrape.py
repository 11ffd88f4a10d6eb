"""Metrics from the pods themselves: all pods of a release at once, bounded in time, size and number of connections.

What is asked here is turned into differences by `davylamp.signals.counters`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

import aiohttp
import msgspec

from davylamp.api.analysis import Scraping
from davylamp.signals.conventions import Choice, Names, detect, read
from davylamp.signals.counters import Seen
from davylamp.signals.exposition import BadExposition, Exposition, decode
from davylamp.signals.fetch import Answer, Unavailable, fetch

ACCEPT = (
    "application/openmetrics-text;version=1.0.0;escaping=underscores;q=0.6,"
    "text/plain;version=0.0.4;escaping=underscores;q=0.5,*/*;q=0.1"
)
MAX_BYTES = 16_000_000
SECONDS = 5.0
PARALLEL = 16
PATHS = ("/metrics", "/actuator/prometheus", "/q/metrics")
"""Where programs have their metrics; Spring Boot's and Quarkus' own after the usual one."""
PORT_NAMES = ("metrics", "http-metrics", "prometheus", "monitoring", "admin", "management", "http", "web")


class Target(msgspec.Struct, frozen=True):
    """A pod to ask. `urls` are tried in this order until one has metrics."""

    pod: str
    urls: tuple[str, ...]
    restarts: int = 0
    """How often its containers were restarted, as Kubernetes counts it."""
    ready_at: float | None = None
    """When it became ready (seconds since the epoch); None if that is so long ago that it does not matter."""


class Scrape(msgspec.Struct, frozen=True):
    """What a pod answered: metrics, or a problem."""

    target: Target
    at: float
    """When the answer was there, seconds since the epoch."""
    url: str = ""
    exposition: Exposition | None = None
    problem: str = ""


def urls(
    address: str,
    ports: Mapping[str, int] | None = None,
    annotations: Mapping[str, str] | None = None,
    given: Scraping | None = None,
) -> tuple[str, ...]:
    """Where a pod's metrics may be: where the policy says, else where the pod's `prometheus.io/port`, `path` and
    `scheme` annotations do, else on the ports (name -> number), those first that are named for it, at the usual paths.
    Empty: nowhere."""
    notes, policy = annotations or {}, given or Scraping()
    host = f"[{address}]" if ":" in address else address
    scheme = "https" if notes.get("prometheus.io/scheme") == "https" else "http"
    path = policy.path or notes.get("prometheus.io/path", "")
    paths = (f"/{path.lstrip('/')}",) if path else PATHS
    annotated = notes.get("prometheus.io/port", "")
    if policy.port is not None:
        numbers: Sequence[int] = (policy.port,)
    elif annotated.isdigit():
        numbers = (int(annotated),)
    else:
        ranked = sorted((ports or {}).items(), key=lambda port: (_rank(port[0]), port[1]))
        numbers = [number for _, number in ranked][:3]
    return tuple(f"{scheme}://{host}:{number}{path}" for number in numbers for path in paths)


def _rank(name: str) -> int:
    return PORT_NAMES.index(name) if name in PORT_NAMES else len(PORT_NAMES)


async def scrape(
    session: aiohttp.ClientSession,
    targets: Iterable[Target],
    now: float,
    *,
    seconds: float = SECONDS,
    max_bytes: int = MAX_BYTES,
    parallel: int = PARALLEL,
) -> list[Scrape]:
    """Ask every pod, at most `parallel` at once, each at most `seconds`. `now` is the time, in seconds since the
    epoch; what is asked later than others is stamped later. Never raises: a pod's problem is in its Scrape."""
    gate = asyncio.Semaphore(parallel)
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def one(target: Target) -> Scrape:
        async with gate:
            url, answer, problem = await _ask(session, target, seconds, max_bytes)
        at = now + loop.time() - began
        if answer is None:
            return Scrape(target, at, url, problem=problem)
        try:
            return Scrape(target, at, url, decode(answer.body, answer.content_type))
        except BadExposition as error:
            return Scrape(target, at, url, problem=f"{url}: {error}")

    return list(await asyncio.gather(*(one(target) for target in targets)))


async def _ask(
    session: aiohttp.ClientSession, target: Target, seconds: float, max_bytes: int
) -> tuple[str, Answer | None, str]:
    """The first address that answers 200, and its answer; or the first problem there was."""
    problems: list[str] = []
    for url in target.urls:
        try:
            answer = await fetch(session, "GET", url, seconds=seconds, max_bytes=max_bytes, headers={"Accept": ACCEPT})
        except Unavailable as error:
            problems.append(str(error))
            continue
        if answer.status == 200:
            return url, answer, ""
        problems.append(f"{url} answers {answer.status}")
    return "", None, problems[0] if problems else "the pod names no port on which its metrics could be"


def choose(scrapes: Iterable[Scrape], names: Names | None = None) -> Choice:
    """What the series of all these pods together would feed; to be kept for the length of a release."""
    return detect(merged(scrapes), names)


def merged(scrapes: Iterable[Scrape]) -> Exposition:
    """The series of all these pods together."""
    samples: dict[str, dict[str, float]] = {}
    types: dict[str, str] = {}
    for one in scrapes:
        if one.exposition is not None:
            types |= one.exposition.types
            for name, series in one.exposition.samples.items():
                samples.setdefault(name, {}).update(series)
    return Exposition(samples, types)


def seen(scrape: Scrape, choice: Choice) -> Seen | None:
    """The counters of a scrape, for `counters.advance`; None where there are none.

    Raises BadExposition for labels that can't be read.
    """
    exposition = scrape.exposition
    if exposition is None:
        return None
    counts = read(exposition, choice)
    if not counts.requests and not counts.buckets:
        return None
    started = next(iter(exposition.samples.get("process_start_time_seconds", {}).values()), None)
    return Seen(scrape.at, counts, started, scrape.target.restarts, scrape.target.ready_at)
