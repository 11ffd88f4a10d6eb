"""Looks at a release: each check's counts, and what is wrong with one leaves the others alone."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import aiohttp
import msgspec
import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestServer

from davylamp.analysis.counts import Events, Feedback, Latencies, Outcome, Pod, Samples, Value, validate
from davylamp.analysis.counts import Logs as LogCounts
from davylamp.analysis.look import begin, look
from davylamp.analysis.rules import Rules
from davylamp.api.analysis import Analysis, Key
from davylamp.signals import logs as signals_logs
from davylamp.signals.addresses import LOOPBACK
from davylamp.signals.checks import Facts, NoJob
from davylamp.signals.feedback import Box, Said, Sides
from davylamp.signals.fetch import client
from davylamp.signals.gather import Gatherer, Look, Pods
from davylamp.signals.logs import Logs, Templates
from davylamp.signals.policy import feedback_rules, names_of, rules_of
from davylamp.signals.scrape import Target

FACTS = Facts("shop", "web", "web-7f6b13-1", 1, 10)


class Shop:
    """Pods, a Prometheus that knows them, and a webhook, in one server."""

    def __init__(self) -> None:
        self.counts = {"s1": (0, 0), "s2": (0, 0), "c1": (0, 0)}
        self.broken: set[str] = set()
        self.gate = 204
        self.prometheus = 200
        self.at = 1000.0
        self.cpu = True
        self.names: dict[str, str] = {}
        self.orders = {"s1": "5", "s2": "5", "c1": "4"}

    async def metrics(self, request: web.Request) -> web.Response:
        pod = request.match_info["pod"]
        good, bad = self.counts[pod]
        if pod in self.broken:
            return web.Response(text="<html>", content_type="text/html")
        name = self.names.get(pod, "http_requests_total")
        return web.Response(
            text=f'{name}{{status="200"}} {good}\n{name}{{status="500"}} {bad}\n'
            f'http_request_duration_seconds_bucket{{le="0.1"}} {good}\n'
            f'http_request_duration_seconds_bucket{{le="+Inf"}} {good + bad}\n'
        )

    async def hook(self, request: web.Request) -> web.Response:
        return web.Response(status=self.gate)

    async def query(self, request: web.Request) -> web.Response:
        query = str((await request.post())["query"])
        if self.prometheus != 200:
            return web.Response(status=self.prometheus)
        if request.path.endswith("query_range"):
            value = "20" if "c1" in query else "5"
            lines = [{"metric": {}, "values": [[at, value] for at in range(6)]}] if self.cpu else []
            return web.json_response({"status": "success", "data": {"resultType": "matrix", "result": lines}})
        if query.startswith("orders"):
            series = [({"pod": pod}, value) for pod, value in self.orders.items()]
        elif query.startswith("queue"):
            series = [({}, "7")]
        elif query.startswith("max by"):
            series = [({"namespace": "shop", "pod": pod}, str(self.at)) for pod in self.counts]
        else:
            series = [
                ({"__name__": "http_requests_total", "namespace": "shop", "pod": pod, "status": status}, str(count))
                for pod, both in self.counts.items()
                for status, count in zip(("200", "500"), both, strict=True)
            ]
        result = [{"metric": labels, "value": [self.at, value]} for labels, value in series]
        return web.json_response({"status": "success", "data": {"resultType": "vector", "result": result}})


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with client(LOOPBACK) as found:
        yield found


@pytest.fixture
async def shop() -> AsyncIterator[tuple[Shop, BaseTestServer]]:
    found = Shop()
    app = web.Application()
    app.add_routes([web.get("/{pod}/metrics", found.metrics), web.post("/gate", found.hook)])
    app.add_routes([web.post(f"/api/v1/{path}", found.query) for path in ("query", "query_range")])
    async with TestServer(app) as running:
        yield found, running


def pods(server: BaseTestServer) -> Pods:
    one = {name: Target(name, (str(server.make_url(f"/{name}/metrics")),)) for name in ("s1", "s2", "c1")}
    return Pods("shop", (one["s1"], one["s2"]), (one["c1"],))


def analysis(server: BaseTestServer, text: str) -> Analysis:
    content: Any = yaml.safe_load(text.replace("SERVER", str(server.make_url("")).rstrip("/")))
    return msgspec.convert(content, Analysis)


async def test_errors_and_latency_come_from_the_pods(
    shop: tuple[Shop, BaseTestServer], session: aiohttp.ClientSession
) -> None:
    policy = Analysis()
    gatherer = Gatherer(policy, session, {}, 990)
    first = await gatherer.look(1000, pods(shop[1]), FACTS)
    assert (first.counts, first.problems) == ((), ())
    shop[0].counts = {"s1": (90, 0), "s2": (60, 1), "c1": (10, 2)}
    found = await gatherer.look(1010, pods(shop[1]), FACTS)
    assert found.problems == ()
    taken = dict(found.counts)
    assert taken["errors"] == Events(1000, 1010, (Pod("s1", 90), Pod("s2", 61, 1)), (Pod("c1", 12, 2),))
    latencies = taken["latency"]
    assert isinstance(latencies, Latencies)
    assert [(one.bounds, one.counts) for one in latencies.canary] == [((0.1,), (10, 2))]
    state = begin(rules_of(policy), 990)
    for name, one in found.counts:
        validate(one)
        state = look(state, rules_of(policy), name, one)
    assert {name: seen.note for name, seen in state.checks.items()} == {"errors": "", "latency": ""}


async def test_a_pod_that_answers_nonsense_is_left_out_and_named(
    shop: tuple[Shop, BaseTestServer], session: aiohttp.ClientSession
) -> None:
    gatherer = Gatherer(Analysis(), session, {}, 990)
    await gatherer.look(1000, pods(shop[1]), FACTS)
    shop[0].broken = {"s2"}
    shop[0].counts = {"s1": (90, 0), "s2": (60, 1), "c1": (10, 2)}
    found = await gatherer.look(1010, pods(shop[1]), FACTS)
    (problem,) = found.problems
    assert problem.startswith("pod s2: ")
    events = dict(found.counts)["errors"]
    assert isinstance(events, Events)
    assert events.stable == (Pod("s1", 90),)


async def test_after_an_outage_the_next_look_begins_anew(
    shop: tuple[Shop, BaseTestServer], session: aiohttp.ClientSession
) -> None:
    gatherer = Gatherer(Analysis(), session, {}, 990)
    await gatherer.look(1000, pods(shop[1]), FACTS)
    shop[0].broken = {"s1", "s2", "c1"}
    outage = await gatherer.look(1010, pods(shop[1]), FACTS)
    assert (outage.counts, len(outage.problems)) == ((), 3)
    shop[0].broken = set()
    shop[0].counts["s1"] = (500, 0)
    assert (await gatherer.look(1020, pods(shop[1]), FACTS)).counts == ()
    shop[0].counts["s1"] = (520, 0)
    events = dict((await gatherer.look(1030, pods(shop[1]), FACTS)).counts)["errors"]
    assert isinstance(events, Events)
    assert (events.start, events.stable[0]) == (1020, Pod("s1", 20))


async def test_a_version_that_counts_in_other_names_is_told(
    shop: tuple[Shop, BaseTestServer], session: aiohttp.ClientSession
) -> None:
    gatherer = Gatherer(analysis(shop[1], "{checks: [{errors: {}}]}"), session, {}, 990)
    await gatherer.look(1000, pods(shop[1]), FACTS)
    shop[0].names = {"c1": "http_server_requests_total"}
    shop[0].counts["s1"] = (5, 0)
    found = await gatherer.look(1010, pods(shop[1]), FACTS)
    told = "counts as http_server_requests_total, but errors reads http_requests_total of the other pods"
    assert found.problems == (f"pod c1: {told}",)


QUERIES = """
sources: {prometheus: {address: SERVER}}
checks:
  - errors: {}
  - metric: {name: orders, query: 'orders{pod=~"$pods"}', bad: down}
  - threshold: {query: 'queue{pod=~"$canary"}', max: 9}
"""


async def test_prometheus_is_asked_for_counters_and_queries(
    shop: tuple[Shop, BaseTestServer], session: aiohttp.ClientSession
) -> None:
    gatherer = Gatherer(analysis(shop[1], QUERIES), session, {}, 990)
    await gatherer.look(1000, pods(shop[1]), FACTS)
    shop[0].counts = {"s1": (90, 0), "s2": (60, 1), "c1": (10, 2)}
    not_yet = dict((await gatherer.look(1010, pods(shop[1]), FACTS)).counts)
    assert "errors" not in not_yet, "Prometheus has no newer samples"
    shop[0].at = 1015
    found = await gatherer.look(1020, pods(shop[1]), FACTS)
    assert found.problems == ()
    taken = dict(found.counts)
    assert taken["errors"] == Events(1000, 1020, (Pod("s1", 90), Pod("s2", 61, 1)), (Pod("c1", 12, 2),))
    assert isinstance(taken["orders"], Samples)
    assert [one.value for one in taken["orders"].canary] == [4]
    assert taken["threshold"] == Value(1010, 1020, 7)


async def test_series_that_name_the_version_are_compared_as_one_pod_each(
    shop: tuple[Shop, BaseTestServer], session: aiohttp.ClientSession
) -> None:
    text = QUERIES.replace("SERVER}", "SERVER, versionLabel: pod}").replace('{pod=~"$pods"}', "")
    gatherer = Gatherer(analysis(shop[1], text), session, {}, 990)
    young = msgspec.structs.replace(pods(shop[1]), versions=("s1", "c1"))
    young = msgspec.structs.replace(young, canary=(msgspec.structs.replace(young.canary[0], ready_at=995.0),))
    await gatherer.look(1000, young, FACTS)
    shop[0].counts, shop[0].at = {"s1": (90, 0), "s2": (60, 1), "c1": (10, 2)}, 1015
    taken = dict((await gatherer.look(1020, young, FACTS)).counts)
    assert taken["errors"] == Events(1000, 1020, (Pod("s1", 90),), (Pod("c1", 12, 2, 0.0),))
    orders = taken["orders"]
    assert isinstance(orders, Samples)
    assert [[one.value for one in side] for side in (orders.stable, orders.canary)] == [[5], [4]]


KAYENTA = """
sources: {prometheus: {address: SERVER}}
checks:
  - kayenta:
      length: 60s
      metrics: [{name: cpu, query: 'cpu{pod=~"$pods"}', direction: increase}]
"""


async def test_the_judge_is_asked_once_when_its_time_is_over_and_its_word_holds_from_then_on(
    shop: tuple[Shop, BaseTestServer], session: aiohttp.ClientSession
) -> None:
    gatherer = Gatherer(analysis(shop[1], KAYENTA), session, {}, 990)
    looks = [await gatherer.look(at, pods(shop[1]), FACTS) for at in (1000, 1040)]
    shop[0].cpu = False
    looks += [await gatherer.look(1050, pods(shop[1]), FACTS)]
    assert looks[-1].problems == ("kayenta: 1 of 1 metrics have no data: cpu",)
    shop[0].cpu = True
    looks += [await gatherer.look(at, pods(shop[1]), FACTS) for at in (1060, 1070)]
    said = "kayenta: score 0 of 100, 95 passes; cpu is High (4 times the baseline's)"
    assert [dict(one.counts) for one in looks] == [
        {"kayenta": Outcome(990, 1000, None, "kayenta: the judge looks in 50 s")},
        {"kayenta": Outcome(1000, 1040, None, "kayenta: the judge looks in 10 s")},
        {},
        {"kayenta": Outcome(1050, 1060, False, said)},
        {"kayenta": Outcome(1060, 1070, False, said)},
    ]


async def test_a_query_without_values_is_said_and_a_refusal_too(
    shop: tuple[Shop, BaseTestServer], session: aiohttp.ClientSession
) -> None:
    gatherer = Gatherer(analysis(shop[1], QUERIES), session, {}, 990)
    await gatherer.look(1000, pods(shop[1]), FACTS)
    shop[0].orders = {}
    found = await gatherer.look(1010, pods(shop[1]), FACTS)
    assert found.problems == ('orders: no data; the query is: orders{pod=~"$pods"}',), "as the policy has it"
    shop[0].prometheus = 403
    away = await gatherer.look(1020, pods(shop[1]), FACTS)
    assert away.counts == ()
    assert [problem.partition(":")[0] for problem in away.problems] == ["errors and latency", "orders", "threshold"]


async def test_a_webhook_fails_after_as_many_failures_in_a_row_as_the_policy_says(
    shop: tuple[Shop, BaseTestServer], session: aiohttp.ClientSession
) -> None:
    gatherer = Gatherer(analysis(shop[1], "{checks: [{webhook: {url: SERVER/gate, times: 2}}]}"), session, {}, 990)
    said: list[bool | None] = []
    for number, status in enumerate((204, 204, 500, 204, 500, 503, 500)):
        shop[0].gate = status
        taken = dict((await gatherer.look(1000 + 10 * number, pods(shop[1]), FACTS)).counts)
        outcome = taken.get("webhook")
        said.append(outcome.passed if isinstance(outcome, Outcome) else None)
        if number == 2:
            assert isinstance(outcome, Outcome)
            assert outcome.message.startswith("webhook: 1 of 2 failures in a row, http://")
        assert (status == 503) is (outcome is None), "no verdict is an outage, a failure is not"
    assert said == [True, True, None, True, None, None, False]


async def test_what_pods_are_asked_more_often_than_an_interval_is_not_asked_of_others(
    shop: tuple[Shop, BaseTestServer], session: aiohttp.ClientSession
) -> None:
    text = "{checks: [{errors: {}}, {webhook: {url: SERVER/gate, times: 3}}]}"
    gatherer = Gatherer(analysis(shop[1], text), session, {}, 990)
    shop[0].gate = 500
    failed, counted = [], 0
    for at in range(1000, 1022, 2):
        taken = dict((await gatherer.look(at, pods(shop[1]), FACTS)).counts)
        counted += "errors" in taken
        if isinstance(outcome := taken.get("webhook"), Outcome):
            failed.append((at, outcome.passed))
    assert counted == 10
    assert failed == [(1000, None), (1010, None), (1020, False)], "three intervals in a row"
    shop[0].gate = 503
    for at in (1030, 1032):
        (said,) = (await gatherer.look(at, pods(shop[1]), FACTS)).problems
        assert "answers 503" in said, "it is not forgotten between two intervals"


async def test_logs_and_feedback_come_with_the_others(
    shop: tuple[Shop, BaseTestServer], session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals_logs, "_SETTLED", 0.0)
    policy = analysis(shop[1], "{checks: [{errors: {}}, {logs: {}}, {feedback: {}}]}")
    feedback = policy.checks[2].feedback
    assert feedback is not None

    async def follow(pod: str, since: int | None) -> AsyncGenerator[str, None]:
        yield "ERROR boom"

    watched = Logs(follow, Templates())
    watched.watch(["s1"], ["c1"])
    box = Box(feedback_rules(feedback, {}), Sides(frozenset(), frozenset()), b"")
    gatherer = Gatherer(policy, session, {}, 990, logs=watched, box=box)
    await gatherer.look(1000, pods(shop[1]), FACTS)
    box.put(Said("a", True, True, 1001.0))
    shop[0].counts = {"s1": (90, 0), "s2": (60, 0), "c1": (10, 2)}
    taken = dict((await gatherer.look(1010, pods(shop[1]), FACTS)).counts)
    assert isinstance(taken["logs"], LogCounts)
    said = taken["feedback"]
    assert isinstance(said, Feedback)
    assert (said.stable_requests, said.canary_requests, len(said.votes)) == (150, 12, 1)
    await watched.close()


def test_a_policy_becomes_rules_of_the_statistics() -> None:
    text = """
    checks: [{latency: {quantile: 0.9, histogram: shop_duration_bucket, unit: milliseconds}}, {logs: {}},
             {threshold: {query: up, max: 3, times: 2}}, {name: gate, webhook: {url: "http://a.example"}}]
    tolerate: 1.5
    falseAlarms: 0.5%
    warmUp: 2m
    """
    policy = msgspec.convert(yaml.safe_load(text), Analysis)
    found = rules_of(policy)
    assert isinstance(found, Rules)
    assert [(check.name, check.kind) for check in found.checks] == [
        ("latency", "latency"),
        ("logs", "logs"),
        ("threshold", "threshold"),
        ("gate", "outcome"),
    ]
    assert (found.checks[0].quantile, found.checks[2].most, found.checks[2].times) == (0.9, 3, 2)
    assert (found.tolerate, found.false_alarms, found.warm_up) == (1.5, 0.005, 120)
    assert begin(found, 0).checks
    names = names_of(policy.checks[0])
    assert (names.latency, names.unit) == ("shop_duration_bucket", 0.001)


@pytest.mark.parametrize("tolerate", [1.0, 1.25, 2.0, 50.0])
def test_every_tolerance_that_a_policy_can_have_makes_good_rules(tolerate: float) -> None:
    assert begin(rules_of(Analysis(tolerate=tolerate)), 0).checks


def test_a_missing_token_of_feedback_lets_nobody_in() -> None:
    policy = msgspec.convert(
        {"checks": [{"feedback": {"token": {"secret": "feedback", "key": "token"}}}]}, Analysis
    ).checks[0]
    assert policy.feedback is not None
    with pytest.raises(ValueError, match='no key token in Secret "feedback"'):
        feedback_rules(policy.feedback, {})
    assert feedback_rules(policy.feedback, {Key("feedback", "token"): b"abc\n"}).token == "abc"


JOB = """
checks:
  - job: {template: {spec: {containers: [{name: test, image: smoke:v1}]}}}
  - webhook: {url: SERVER/gate}
"""


class Jobs:
    """Stands for the API server: Jobs that end when told."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.conditions: list[dict[str, str]] = []
        self.refused = False

    async def run(self, manifest: dict[str, Any]) -> dict[str, Any]:
        if self.refused:
            raise NoJob("job: its Job can't be run: forbidden")
        self.made.append(manifest["metadata"]["name"])
        assert manifest["metadata"]["ownerReferences"][0]["uid"] == "uid-1"
        return manifest | {"status": {"conditions": self.conditions}}


@pytest.mark.parametrize(("condition", "passed"), [("Complete", True), ("Failed", False)])
async def test_a_job_is_waited_for_and_its_end_holds_from_then_on(
    shop: tuple[Shop, BaseTestServer], session: aiohttp.ClientSession, condition: str, passed: bool
) -> None:
    jobs = Jobs()
    gatherer = Gatherer(analysis(shop[1], JOB), session, {}, 990, run=jobs.run, uid="uid-1")
    before = msgspec.structs.replace(FACTS, step=0)
    found = await gatherer.look(1000, pods(shop[1]), before)
    assert found == Look((), (), frozenset({"webhook", "job"})), "the canary gets no requests yet"
    jobs.refused = True
    refused = await gatherer.look(1010, pods(shop[1]), FACTS)
    assert refused.problems == ("job: its Job can't be run: forbidden",)
    jobs.refused = False
    running = await gatherer.look(1020, pods(shop[1]), FACTS)
    assert running.problems == ()
    assert dict(running.counts)["job"] == Outcome(1010, 1020, None, "job: Job web-7f6b13-1-job-1 is running")
    jobs.conditions = [{"type": condition, "status": "True", "message": "exit code 3"}]
    for at in (1030, 1040):
        counted = dict((await gatherer.look(at, pods(shop[1]), FACTS)).counts)
        outcome = counted["job"]
        assert isinstance(outcome, Outcome)
        assert (outcome.start, outcome.end, outcome.passed) == (at - 10, at, passed)
        assert "webhook" in counted
    assert len(jobs.made) == 2, "nobody asks for what is known"
