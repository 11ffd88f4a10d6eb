"""Releases that share a Prometheus share its queries, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from davylamp.api.analysis import Key, Prometheus
from davylamp.signals import pool as pools
from davylamp.signals.addresses import LOOPBACK
from davylamp.signals.fetch import Unavailable, client
from davylamp.signals.pool import Pool, Pools
from davylamp.signals.prometheus import Access
from davylamp.signals.scrape import Target

RELEASES = ({("shop", "a"): Target("a", ())}, {("shop", "b"): Target("b", ())}, {("bank", "a"): Target("a", ())})


class Server:
    def __init__(self) -> None:
        self.asked: list[str] = []
        self.status = 200
        self.reached = asyncio.Event()

    async def answer(self, request: web.Request) -> web.Response:
        self.reached.set()
        self.asked.append(str((await request.post())["query"]))
        result = [
            {"metric": {"__name__": "x", "namespace": ns, "pod": pod}, "value": [5, value]}
            for ns, pod, value in (("shop", "a", "1"), ("shop", "b", "2"), ("bank", "a", "3"))
        ]
        body = {"status": "success", "data": {"resultType": "vector", "result": result}}
        return web.json_response(body, status=self.status)


@pytest.fixture
async def session(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[aiohttp.ClientSession]:
    monkeypatch.setattr(pools, "GATHERING", 0.0)
    async with client(LOOPBACK) as found:
        yield found


@pytest.fixture
async def server() -> AsyncIterator[tuple[Server, Access]]:
    found = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", found.answer)
    async with TestServer(app) as running:
        yield found, Access(str(running.make_url("")))


async def test_who_asks_together_is_answered_by_one_query(
    server: tuple[Server, Access], session: aiohttp.ClientSession
) -> None:
    pool = Pool(session, server[1])
    answers = await asyncio.gather(*(pool.counters(targets, ["x"], "") for targets in RELEASES))
    values = [[one.exposition.samples["x"] for one in found.values() if one.exposition] for found in answers]
    assert values == [[{"{}": 1}], [{"{}": 2}], [{"{}": 3}]]
    assert len(server[0].asked) == 1
    await pool.counters(RELEASES[0], ["x"], "")
    assert len(server[0].asked) == 2, "whoever comes later gets an answer of its own"


async def test_who_wants_other_series_asks_alone(server: tuple[Server, Access], session: aiohttp.ClientSession) -> None:
    pool = Pool(session, server[1])
    await asyncio.gather(pool.counters(RELEASES[0], ["x"], ""), pool.counters(RELEASES[1], ["x", "y"], ""))
    assert len(server[0].asked) == 2


async def test_who_gives_up_does_not_take_the_answer_from_others(
    server: tuple[Server, Access], session: aiohttp.ClientSession
) -> None:
    pool = Pool(session, server[1])
    impatient, patient = (asyncio.create_task(pool.counters(targets, ["x"], "")) for targets in RELEASES[:2])
    await asyncio.sleep(0)
    impatient.cancel()
    assert [one.target.pod for one in (await patient).values()] == ["b"]


async def test_an_error_reaches_everyone(server: tuple[Server, Access], session: aiohttp.ClientSession) -> None:
    server[0].status = 403
    pool = Pool(session, server[1])
    both = (pool.counters(targets, ["x"], "") for targets in RELEASES[:2])
    answers = await asyncio.gather(*both, return_exceptions=True)
    assert [type(one) for one in answers] == [Unavailable, Unavailable]


async def test_a_pool_that_closes_leaves_no_query_behind_that_is_tried_again(
    server: tuple[Server, Access], session: aiohttp.ClientSession
) -> None:
    found = Pools(session)
    pool = found.of(Prometheus(server[1].address), {})
    server[0].status = 503
    waiting = asyncio.create_task(pool.counters(RELEASES[0], ["x"], ""))
    await server[0].reached.wait()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await found.close()
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "counters of several releases"]


async def test_only_the_same_credentials_share(session: aiohttp.ClientSession) -> None:
    token = Key("prom", "token")
    source, every = Prometheus("http://p", bearer_token=token), Pools(session)
    one = every.of(source, {token: b"a"})
    assert every.of(source, {token: b"a", Key("other", "key"): b"x"}) is one
    assert every.of(source, {token: b"b"}) is not one
    assert every.of(Prometheus("http://p"), {token: b"a"}) is not one
