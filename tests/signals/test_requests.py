"""Requests of both versions' pods between two looks: what users asked, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestServer

from davylamp.analysis.effect import Interval
from davylamp.signals.addresses import LOOPBACK
from davylamp.signals.conventions import Names
from davylamp.signals.fetch import client
from davylamp.signals.requests import MOST, Pods, Requests
from davylamp.signals.scrape import Target


class Fleet:
    """Pods that answer with the texts in `metrics`, by name; others not at all. `asked` has every question."""

    def __init__(self, server: BaseTestServer, metrics: dict[str, str], asked: list[str]) -> None:
        self.server = server
        self.metrics = metrics
        self.asked = asked

    def pods(self, stable: int = 1, canary: int = 1, probes: float = 0.0) -> Pods:
        def targets(side: str, count: int) -> tuple[Target, ...]:
            return tuple(
                Target(f"{side}{i}", tuple(str(self.server.make_url(f"/{side}{i}/{at}")) for at in ("one", "metrics")))
                for i in range(count)
            )

        return Pods(targets("stable", stable), targets("canary", canary), (probes, probes))


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    metrics: dict[str, str] = {}
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        pod, at = request.match_info["pod"], request.match_info["at"]
        asked.append(f"{pod}/{at}")
        return web.Response(text=metrics[pod]) if at == "metrics" and pod in metrics else web.Response(status=404)

    app = web.Application()
    app.add_routes([web.get("/{pod}/{at}", answer)])
    async with TestServer(app) as running:
        yield Fleet(running, metrics, asked)


def by_path(users: int, probes: int = 0, name: str = "http_requests_total") -> str:
    series = (f'{name}{{path="{path}",status="200"}} {count}\n' for path, count in (("/", users), ("/healthz", probes)))
    return f"# TYPE {name} counter\n{''.join(series)}"


def without_path(count: int) -> str:
    return f'# TYPE http_requests_total counter\nhttp_requests_total{{code="200"}} {count}\n'


async def test_what_users_asked_between_two_looks_is_counted_for_each_version(fleet: Fleet) -> None:
    async with client(LOOPBACK) as session:
        requests = Requests(session, Names())
        fleet.metrics |= {"stable0": by_path(1000, 50), "canary0": by_path(0, 7)}
        assert await requests.look(100.0, fleet.pods()) is None
        fleet.metrics |= {"stable0": by_path(1090, 60), "canary0": by_path(10, 17)}
        assert await requests.look(100.5, fleet.pods()) == Interval(0.5, 90, 10, 10)
        assert requests.known


async def test_where_a_version_has_its_metrics_is_found_out_once(fleet: Fleet) -> None:
    async with client(LOOPBACK) as session:
        requests = Requests(session, Names())
        fleet.metrics |= {f"{side}{i}": by_path(1) for side in ("stable", "canary") for i in range(3)}
        for now in range(3):
            await requests.look(float(now), fleet.pods(3, 3))
    assert sorted(one for one in fleet.asked if one.endswith("/one")) == ["canary0/one", "stable0/one"]
    assert len([one for one in fleet.asked if one.endswith("/metrics")]) == 2 + 3 * 6


async def test_pods_without_metrics_are_asked_once_and_never_again(fleet: Fleet) -> None:
    async with client(LOOPBACK) as session:
        requests = Requests(session, Names())
        for now in range(3):
            assert await requests.look(float(now), fleet.pods(5, 5)) is None
    assert requests.blind
    assert len(fleet.asked) == 4


async def test_a_counter_that_appears_with_the_first_request_stood_at_nothing(fleet: Fleet) -> None:
    async with client(LOOPBACK) as session:
        requests = Requests(session, Names())
        other = "# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds 1\n"
        fleet.metrics |= {"stable0": by_path(10), "canary0": other}
        await requests.look(0.0, fleet.pods())
        assert not requests.known
        fleet.metrics |= {"stable0": by_path(20), "canary0": other}
        assert await requests.look(1.0, fleet.pods()) == Interval(1.0, 10, 0, 0)
        fleet.metrics |= {"stable0": by_path(30), "canary0": other + by_path(4)}
        assert await requests.look(2.0, fleet.pods()) == Interval(1.0, 10, 4, 4)
        assert requests.known


async def test_versions_may_count_by_different_names(fleet: Fleet) -> None:
    name = "http_server_request_duration_seconds_count"
    async with client(LOOPBACK) as session:
        requests = Requests(session, Names())
        fleet.metrics |= {"stable0": by_path(10), "canary0": by_path(1, name=name)}
        await requests.look(0.0, fleet.pods())
        fleet.metrics |= {"stable0": by_path(40), "canary0": by_path(6, name=name)}
        assert await requests.look(1.0, fleet.pods()) == Interval(1.0, 30, 5, 5)


async def test_a_pod_that_did_not_answer_or_began_anew_is_left_out_and_the_others_stand_for_it(fleet: Fleet) -> None:
    async with client(LOOPBACK) as session:
        requests = Requests(session, Names())
        fleet.metrics |= {"stable0": by_path(10), "stable1": by_path(10), "canary0": by_path(5), "canary1": by_path(5)}
        await requests.look(0.0, fleet.pods(2, 2))
        del fleet.metrics["stable1"]
        fleet.metrics |= {"stable0": by_path(20), "canary0": by_path(2), "canary1": by_path(6)}
        assert await requests.look(1.0, fleet.pods(2, 2)) == Interval(1.0, 10, 1, 1, 0.5, 0.5)


async def test_of_many_pods_some_are_asked(fleet: Fleet) -> None:
    async with client(LOOPBACK) as session:
        requests = Requests(session, Names())
        fleet.metrics |= {f"stable{i}": by_path(0) for i in range(40)} | {"canary0": by_path(0)}
        await requests.look(0.0, fleet.pods(40, 1))
        fleet.metrics |= {f"stable{i}": by_path(3) for i in range(40)}
        assert await requests.look(1.0, fleet.pods(40, 1)) == Interval(1.0, 3 * MOST, 0, 0, MOST / 40)


async def test_a_counter_without_a_path_may_count_probes_and_our_own_questions(fleet: Fleet) -> None:
    async with client(LOOPBACK) as session:
        requests = Requests(session, Names())
        count = 0
        fleet.metrics |= {"stable0": without_path(1000), "canary0": without_path(count)}
        await requests.look(0.0, fleet.pods(probes=0.2))
        seen = []
        for second in range(1, 11):
            # Our own question, and every fifth second a probe.
            count += 1 + (second % 5 == 0)
            fleet.metrics |= {"canary0": without_path(count), "stable0": without_path(1000 + 100 * second)}
            found = await requests.look(float(second), fleet.pods(probes=0.2))
            assert found is not None
            seen.append((found.canary, found.at_most))
    assert {canary for canary, _ in seen} == {0}
    assert sum(most for _, most in seen) == count


async def test_the_policys_name_for_the_counter_goes_first(fleet: Fleet) -> None:
    async with client(LOOPBACK) as session:
        requests = Requests(session, Names(requests="shop_orders_total"))
        both = by_path(5) + by_path(7, name="shop_orders_total")
        fleet.metrics |= {"stable0": both, "canary0": both}
        await requests.look(0.0, fleet.pods())
        fleet.metrics |= {"stable0": by_path(5) + by_path(17, name="shop_orders_total")}
        assert await requests.look(1.0, fleet.pods()) == Interval(1.0, 10, 0, 0)
