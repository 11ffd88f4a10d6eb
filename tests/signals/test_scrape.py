"""Pods are asked in parallel; each answers, or has a problem of its own."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestServer

from davylamp.api.analysis import Scraping
from davylamp.signals.addresses import LOOPBACK
from davylamp.signals.fetch import client
from davylamp.signals.scrape import Target, choose, scrape, seen, urls

METRICS = (
    '# TYPE http_requests_total counter\nhttp_requests_total{status="200"} 90\nhttp_requests_total{status="500"} 2\n'
    "process_start_time_seconds 1763940000.5\n"
)


async def _metrics(request: web.Request) -> web.Response:
    return web.Response(text=METRICS)


async def _hang(request: web.Request) -> web.Response:
    await asyncio.Event().wait()
    raise AssertionError("never")


async def _bomb(request: web.Request) -> web.Response:
    return web.Response(body=gzip.compress(b"a 1\n" * 1_000_000), headers={"Content-Encoding": "gzip"})


async def _page(request: web.Request) -> web.Response:
    return web.Response(text="<html>hello</html>", content_type="text/html")


@pytest.fixture
async def pods() -> AsyncIterator[BaseTestServer]:
    app = web.Application()
    ways = {"good/metrics": _metrics, "spring/actuator/prometheus": _metrics, "hang/metrics": _hang}
    ways |= {"bomb/metrics": _bomb, "page/metrics": _page}
    app.add_routes([web.get(f"/{path}", way) for path, way in ways.items()])
    async with TestServer(app) as running:
        yield running


def target(server: BaseTestServer, name: str) -> Target:
    return Target(name, tuple(str(server.make_url(f"{name}{path}")) for path in ("/metrics", "/actuator/prometheus")))


async def test_each_pod_answers_or_has_a_problem_of_its_own(pods: BaseTestServer) -> None:
    targets = [target(pods, name) for name in ("good", "spring", "hang", "bomb", "page", "none")] + [Target("no", ())]
    async with client(LOOPBACK) as session:
        found = {one.target.pod: one for one in await scrape(session, targets, 1000.0, seconds=2, max_bytes=100_000)}
    problems = {pod: one.problem for pod, one in found.items()}
    assert problems["good"] == problems["spring"] == ""
    assert problems["hang"].endswith("/hang/metrics: no answer within 2 s")
    assert "the answer has more than 0.1 MB" in problems["bomb"]
    assert "the answer is text/html, not metrics" in problems["page"]
    assert problems["none"].endswith("/none/metrics answers 404")
    assert problems["no"] == "the pod names no port on which its metrics could be"
    choice = choose(found.values())
    counters = seen(found["spring"], choice)
    assert counters is not None
    assert (sum(counters.counts.requests.values()), sum(counters.counts.failures.values())) == (92, 2)
    assert counters.started == 1763940000.5
    assert counters.at >= 1000.0
    assert seen(found["hang"], choice) is None


async def test_no_more_are_asked_at_once_than_allowed() -> None:
    now = most = 0

    async def count(request: web.Request) -> web.Response:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01)
        now -= 1
        return web.Response(text=METRICS)

    app = web.Application()
    app.add_routes([web.get("/metrics", count)])
    async with TestServer(app) as server, client(LOOPBACK) as session:
        targets = [Target(f"p{n}", (str(server.make_url("/metrics")),)) for n in range(12)]
        found = await scrape(session, targets, 0.0, parallel=3)
    assert not any(one.problem for one in found)
    assert most == 3


@pytest.mark.parametrize(
    ("address", "ports", "annotations", "expected"),
    [
        ("10.1.2.3", {"http": 8080}, {"prometheus.io/port": "9102"}, "http://10.1.2.3:9102/metrics"),
        ("10.1.2.3", {"http": 8080}, {"prometheus.io/path": "stats"}, "http://10.1.2.3:8080/stats"),
        ("10.1.2.3", {"http": 8080, "metrics": 9090}, {}, "http://10.1.2.3:9090/metrics"),
        ("10.1.2.3", {"": 80}, {"prometheus.io/scheme": "http://evil.example/?"}, "http://10.1.2.3:80/metrics"),
        ("10.1.2.3", {"": 80}, {"prometheus.io/path": "@evil.example/"}, "http://10.1.2.3:80/@evil.example/"),
        ("fd00::7", {"": 8000}, {"prometheus.io/scheme": "https"}, "https://[fd00::7]:8000/metrics"),
    ],
)
def test_metrics_are_looked_for_where_the_pod_says(
    address: str, ports: dict[str, int], annotations: dict[str, str], expected: str
) -> None:
    assert urls(address, ports, annotations)[0] == expected


def test_what_the_policy_says_goes_before_what_the_pod_says() -> None:
    notes = {"prometheus.io/port": "9102", "prometheus.io/path": "/stats"}
    assert urls("10.1.2.3", {}, notes, Scraping(port=7000, path="/m")) == ("http://10.1.2.3:7000/m",)


def test_a_pod_without_ports_has_no_metrics() -> None:
    assert urls("10.1.2.3") == ()
