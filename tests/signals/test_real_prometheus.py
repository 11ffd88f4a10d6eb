"""The real Prometheus (Debian's package `prometheus`), scraping servers of this test every second."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from davylamp.analysis.counts import Histogram, Pod
from davylamp.signals.addresses import LOOPBACK
from davylamp.signals.conventions import Choice
from davylamp.signals.counters import Seen, advance
from davylamp.signals.fetch import Unavailable, client
from davylamp.signals.prometheus import Access, QueryError, instant, one_value, over
from davylamp.signals.queries import clock, counters, filled, metric_names, ripe
from davylamp.signals.scrape import Target, choose, seen

pytestmark = pytest.mark.cluster
PODS = ("web-1", "web-2")


class Shop:
    """Pods with counters that move only when told to."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(PODS, (0, 0))

    async def metrics(self, request: web.Request) -> web.Response:
        good, bad = self.counts[request.match_info["pod"]]
        return web.Response(
            text=f'# TYPE http_requests_total counter\nhttp_requests_total{{status="200"}} {good}\n'
            f'http_requests_total{{status="500"}} {bad}\n# TYPE http_request_duration_seconds histogram\n'
            f'http_request_duration_seconds_bucket{{le="0.1"}} {good}\n'
            f'http_request_duration_seconds_bucket{{le="+Inf"}} {good + bad}\n'
            f"http_request_duration_seconds_count {good + bad}\nprocess_start_time_seconds 1763940000\n"
        )


@pytest.fixture
async def shop() -> AsyncIterator[tuple[Shop, int]]:
    found = Shop()
    app = web.Application()
    app.add_routes([web.get("/{pod}/metrics", found.metrics)])
    async with TestServer(app) as running:
        assert running.port is not None
        yield found, running.port


@pytest.fixture
async def prometheus(shop: tuple[Shop, int], tmp_path: Path) -> AsyncIterator[tuple[Access, Process]]:
    binary = shutil.which("prometheus")
    assert binary, "prometheus is not installed: apt-get install prometheus"
    jobs = [
        {
            "job_name": pod,
            "metrics_path": f"/{pod}/metrics",
            "static_configs": [{"targets": [f"127.0.0.1:{shop[1]}"], "labels": {"namespace": "shop", "pod": pod}}],
        }
        for pod in PODS
    ]
    config = tmp_path / "prometheus.yml"
    config.write_text(json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": jobs}))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        binary,
        f"--config.file={config}",
        f"--storage.tsdb.path={tmp_path}",
        f"--web.listen-address=127.0.0.1:{port}",
        stderr=DEVNULL,
    )
    yield Access(f"http://127.0.0.1:{port}", seconds=3), process
    if process.returncode is None:
        process.terminate()
    await process.wait()


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    for _ in range(300):
        if await condition():
            return
        await asyncio.sleep(0.1)
    raise AssertionError("not within 30 s")


async def at_once(seconds: float) -> None:
    """Instead of waiting between tries."""


async def test_what_pods_counted_between_two_looks_is_what_comes_out(
    shop: tuple[Shop, int], prometheus: tuple[Access, Process]
) -> None:
    to, process = prometheus
    targets = {("shop", pod): Target(pod, ()) for pod in PODS}
    shop[0].counts = {"web-1": (100, 1), "web-2": (50, 0)}
    async with client(LOOPBACK) as session:
        looks: list[dict[str, Seen]] = []
        choices: list[Choice] = []

        async def look(requests: int, before: dict[str, Seen]) -> bool:
            """Once Prometheus has new samples of both pods, with so many requests in all."""
            try:
                answer = await counters(session, to, targets, metric_names(), "errors", by=clock(choices))
            except Unavailable:
                return False
            found = answer.values()
            choices[:] = [choice := choose(found)]
            now = {one.target.pod: counts for one in found if (counts := seen(one, choice)) is not None}
            looks[:] = [now]
            total = sum(sum(one.counts.requests.values()) for one in now.values())
            return len(now) == 2 and total == requests and ripe(before, now)

        await until(lambda: look(151, {}))
        before, _ = advance({}, looks[0])
        shop[0].counts = {"web-1": (160, 4), "web-2": (55, 0)}
        await until(lambda: look(219, before))
        _, found = advance(before, looks[0])
        assert {pod: one.problem for pod, one in found.items()} == {"web-1": "", "web-2": ""}
        assert found["web-1"].pod == Pod("web-1", 63, 3)
        assert found["web-1"].histogram == Histogram("web-1", (0.1,), (60, 3))
        assert found["web-2"].pod == Pod("web-2", 5, 0)

        query = filled(
            'sum(http_requests_total{pod=~"$canary",namespace="$namespace"})',
            namespace="shop",
            stable=["web-1"],
            canary=["web-2"],
            window=5,
        )
        assert one_value(await instant(session, to, query, "check"), query, "check") == (55, "")
        newest = max(one.at for one in looks[0].values())
        (line,) = await over(session, to, query, "check", start=newest - 2, end=newest, step=1)
        assert line.value == 55
        assert one_value(await instant(session, to, "0/0", "check"), "0/0", "check")[0] is None
        with pytest.raises(QueryError, match=r"check: .*parse error.*; the query is: sum\(rate"):
            await instant(session, to, "sum(rate(x", "check")
        with pytest.raises(QueryError, match="many-to-many matching not allowed"):
            await instant(session, to, "http_requests_total * on(namespace) http_requests_total", "check")

        process.terminate()
        await process.wait()
        with pytest.raises(Unavailable, match=r"check: http://127\.0\.0\.1:\d+/api/v1/query"):
            await instant(session, to, "up", "check", sleep=at_once)
