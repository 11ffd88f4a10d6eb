"""Releases that ask the same Prometheus for the same series at about the same time share the queries."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import aiohttp
import msgspec

from davylamp.api.analysis import Key, Prometheus
from davylamp.signals.prometheus import Access, Secrets, access
from davylamp.signals.queries import Pod, counters
from davylamp.signals.scrape import Scrape, Target

GATHERING = 0.1
"""Seconds that the first of several waits for the others."""


class Pool:
    """The queries for counters at one server, with one set of credentials."""

    def __init__(self, session: aiohttp.ClientSession, to: Access) -> None:
        self.to = to
        self._session = session
        self._waiting: dict[tuple[tuple[str, ...], str], tuple[dict[Pod, Target], asyncio.Task[dict[Pod, Scrape]]]] = {}
        self._asking: set[asyncio.Task[dict[Pod, Scrape]]] = set()

    async def counters(self, targets: Mapping[Pod, Target], metrics: Sequence[str], by: str) -> dict[Pod, Scrape]:
        """As `queries.counters`, for these pods, in one query with those of others who ask for the same series."""
        key = (tuple(metrics), by)
        if key not in self._waiting:
            asking = asyncio.create_task(self._ask(key), name="counters of several releases")
            self._asking.add(asking)
            asking.add_done_callback(self._asking.discard)
            self._waiting[key] = ({}, asking)
        everyone, task = self._waiting[key]
        everyone.update(targets)
        # One who gives up must not take the answer from the others.
        found = await asyncio.shield(task)
        return {pod: one for pod, one in found.items() if pod in targets}

    async def close(self) -> None:
        """Give up what is being asked: nobody waits for it any longer, and it may be tried again for a while."""
        for task in (asking := tuple(self._asking)):
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        self._waiting.clear()

    async def _ask(self, key: tuple[tuple[str, ...], str]) -> dict[Pod, Scrape]:
        await asyncio.sleep(GATHERING)
        targets, _ = self._waiting.pop(key)
        metrics, by = key
        return await counters(self._session, self.to, targets, metrics, "errors and latency", by=by)


class Pools:
    """One pool for each server and set of credentials; releases of different tenants never share."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._pools: dict[bytes, Pool] = {}

    def of(self, source: Prometheus, secrets: Secrets) -> Pool:
        """The pool for `source` with these Secrets. Raises ValueError as `prometheus.access`."""
        used = [secrets.get(key, b"") for key in _keys(source)]
        key = msgspec.json.encode((source, used))
        if key not in self._pools:
            self._pools[key] = Pool(self._session, access(source, secrets))
        return self._pools[key]

    async def close(self) -> None:
        for pool in self._pools.values():
            await pool.close()


def _keys(source: Prometheus) -> list[Key]:
    password = source.basic_auth.password if source.basic_auth is not None else None
    return [key for key in (source.bearer_token, password, source.tls.ca) if key is not None]
