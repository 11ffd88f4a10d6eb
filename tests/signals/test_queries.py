"""What is asked of Prometheus for many releases at once, and what comes of its series."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from davylamp.signals.addresses import LOOPBACK
from davylamp.signals.conventions import Choice, Counts, Names, detect
from davylamp.signals.counters import Seen
from davylamp.signals.exposition import parse
from davylamp.signals.fetch import client
from davylamp.signals.prometheus import Access
from davylamp.signals.queries import Pod, clock, counters, filled, fresh, metric_names, ripe, selector
from davylamp.signals.scrape import Scrape, Target, choose, seen

TO = Access("http://p")


def test_a_selector_names_series_namespaces_and_pods() -> None:
    found = selector(["a_total"], [("shop", "web-1"), ("shop", "web.2"), ("bank", "web-1")], TO)
    assert found == '{__name__=~"a_total",namespace=~"bank|shop",pod=~"web-1|web[.]2"}'
    assert "k8s_pod" in selector(["a"], [("shop", "web-1")], Access("http://p", pod_label="k8s_pod"))


def test_variables_of_a_query_are_filled_in() -> None:
    query = 'sum(rate(x{pod=~"$pods",ns="$namespace",path=~"/a$"}[$window])) / sum(y{pod=~"$canary"}) # $stable $podsx'
    assert filled(query, namespace="shop", stable=["s-1"], canary=["c-1", "c-2"], window=15) == (
        'sum(rate(x{pod=~"c-1|c-2|s-1",ns="shop",path=~"/a$"}[15s])) / sum(y{pod=~"c-1|c-2"}) # s-1 $podsx'
    )


def test_names_are_all_known_ones_until_a_choice_is_made() -> None:
    everything = metric_names(names=Names(requests="shop_calls", latency="shop_duration"))
    assert {"http_requests_total", "istio_requests_total", "shop_calls", "shop_duration_bucket"} <= set(everything)
    assert len(everything) == len(set(everything))


class Server:
    """Answers the two queries of `counters` from (labels, value, time of the sample)."""

    def __init__(self, *series: tuple[dict[str, str], float, float]) -> None:
        self.series = series
        self.asked: list[str] = []

    async def answer(self, request: web.Request) -> web.Response:
        query = str((await request.post())["query"])
        self.asked.append(query)
        if query.startswith("max by"):
            newest: dict[Pod, float] = {}
            for labels, _, at in self.series:
                pod = (labels["namespace"], labels["pod"])
                newest[pod] = max(at, newest.get(pod, 0))
            result: list[Any] = [
                {"metric": {"namespace": ns, "pod": pod}, "value": [0, str(at)]} for (ns, pod), at in newest.items()
            ]
        else:
            result = [{"metric": labels, "value": [0, str(value)]} for labels, value, _ in self.series]
        return web.json_response({"status": "success", "data": {"resultType": "vector", "result": result}})

    async def counters(self, *pods: Pod) -> dict[Pod, Scrape]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.answer)
        targets = {pod: Target(pod[1], ()) for pod in pods}
        async with TestServer(app) as running, client(LOOPBACK) as session:
            return await counters(session, Access(str(running.make_url(""))), targets, ["x"], "errors", by="x")


def labels(pod: str, name: str = "http_requests_total", namespace: str = "shop", **more: str) -> dict[str, str]:
    return {"__name__": name, "namespace": namespace, "pod": pod, "job": "pods", "instance": f"{pod}:80", **more}


async def test_counters_of_pods_come_as_if_they_had_been_scraped() -> None:
    server = Server(
        (labels("web-1", status="200"), 90, 1000),
        (labels("web-1", status="500"), 2, 1001),
        (labels("web-2", status="200", path='/a"b\\'), 50, 1005),
        (labels("web-1", namespace="bank", status="200"), 7, 1002),
    )
    found = await server.counters(("shop", "web-1"), ("shop", "web-2"), ("shop", "web-3"))
    assert sorted(found) == [("shop", "web-1"), ("shop", "web-2")]
    assert len(server.asked) == 2
    choice = choose(found.values())
    one, two = seen(found["shop", "web-1"], choice), seen(found["shop", "web-2"], choice)
    assert one is not None
    assert two is not None
    assert (one.at, sum(one.counts.requests.values()), sum(one.counts.failures.values())) == (1001, 92, 2)
    assert (two.at, sum(two.counts.requests.values())) == (1005, 50)


async def test_without_a_clock_the_time_is_that_of_the_query() -> None:
    server = Server((labels("web-1", status="200"), 90, 1000))
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    async with TestServer(app) as running, client(LOOPBACK) as session:
        to = Access(str(running.make_url("")))
        (found,) = (await counters(session, to, {("shop", "web-1"): Target("web-1", ())}, ["x"], "errors")).values()
    assert (found.at, len(server.asked)) == (0, 1)


def test_the_clock_is_what_is_read_first() -> None:
    assert clock([]) == ""
    errors = detect(parse('http_requests_total{code="200"} 1\n'))
    assert clock([Choice(None, None), errors]) == "http_requests_total"
    latency = detect(parse('http_request_duration_seconds_bucket{le="+Inf"} 1\n'))
    assert clock([latency]) == "http_request_duration_seconds_bucket"


async def test_a_pod_that_is_scraped_twice_counts_once() -> None:
    server = Server((labels("web-1", status="200"), 90, 1), (labels("web-1", status="200", job="again"), 91, 1))
    found = (await server.counters(("shop", "web-1")))["shop", "web-1"]
    counts = seen(found, choose([found]))
    assert counts is not None
    assert sum(counts.counts.requests.values()) == 91
    assert found.exposition is not None
    assert found.exposition.notes == ("http_requests_total is there twice, by two scrapers; one is left out",)


@pytest.mark.parametrize(("containers", "started"), [(("web",), 500.0), (("web", "sidecar"), None)])
async def test_the_start_of_a_pod_with_several_processes_is_not_known(
    containers: tuple[str, ...], started: float | None
) -> None:
    starts = [(labels("web-1", "process_start_time_seconds", container=name), 500.0, 1.0) for name in containers]
    found = (await Server((labels("web-1", status="200"), 90, 1), *starts).counters(("shop", "web-1")))["shop", "web-1"]
    counts = seen(found, choose([found]))
    assert counts is not None
    assert counts.started == started


@pytest.mark.parametrize(
    ("before", "now", "due", "new"),
    [
        ({"a": 0, "b": 5}, {"a": 10, "b": 15}, True, "ab"),
        ({"a": 0, "b": 5}, {"a": 10, "b": 5}, False, "a"),
        ({"a": 0, "b": 5}, {"a": 10}, True, "a"),
        ({"a": 0, "b": 5}, {"a": 200, "b": 5}, True, "a"),
        ({"a": 0}, {"a": 10, "b": 3}, True, "ab"),
        ({"a": 0}, {}, False, ""),
    ],
)
def test_a_look_waits_for_the_next_sample_of_every_pod_that_still_has_some(
    before: dict[str, float], now: dict[str, float], due: bool, new: str
) -> None:
    was, has = ({pod: Seen(at, Counts()) for pod, at in times.items()} for times in (before, now))
    assert ripe(was, has) is due
    assert "".join(sorted(fresh(was, has))) == new
