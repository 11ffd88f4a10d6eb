"""One look at one release: every check's counts since the last look, from wherever they come.

`Gatherer` remembers what a look needs of the one before: counters as they stood, and which series were chosen. It may
be lost at any time: the next look then begins anew, and counts nothing. Whatever goes wrong with one check is a
sentence in `Look.problems` and leaves the others alone; no counts are ever made up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import aiohttp
import msgspec

from davylamp.analysis import counts
from davylamp.api.analysis import Analysis, Check
from davylamp.api.units import readable, seconds
from davylamp.signals.checks import Facts, NoJob, Outcome, ask, job_manifest, job_outcome
from davylamp.signals.conventions import Choice
from davylamp.signals.counters import Seen, advance, interval
from davylamp.signals.feedback import Box
from davylamp.signals.fetch import Unavailable
from davylamp.signals.kayenta import judge
from davylamp.signals.logs import Logs
from davylamp.signals.policy import names_of
from davylamp.signals.pool import Pool
from davylamp.signals.prometheus import Access, QueryError, Secrets, Series, access, by_pod, instant, one_value
from davylamp.signals.queries import clock, filled, fresh, metric_names, ripe
from davylamp.signals.scrape import Scrape, Target, choose, scrape
from davylamp.signals.standing import part, standing_of


class Pods(msgspec.Struct, frozen=True):
    """The pods of a release that are ready, by their version."""

    namespace: str
    stable: tuple[Target, ...]
    canary: tuple[Target, ...]
    versions: tuple[str, str] = ("", "")
    """The pod-template-hashes of stable and of the canary."""

    @property
    def by_version(self) -> Pods:
        """Each version as if it were one pod, which is as young as its youngest."""
        stable, canary = (
            (Target(name, (), ready_at=max((pod.ready_at for pod in side if pod.ready_at is not None), default=None)),)
            for name, side in zip(self.versions, (self.stable, self.canary), strict=True)
        )
        return Pods(self.namespace, stable, canary, self.versions)

    @property
    def all(self) -> tuple[Target, ...]:
        return self.stable + self.canary


class Look(msgspec.Struct, frozen=True):
    counts: tuple[tuple[str, counts.Counts], ...]
    """By the name of the check; a check that has nothing to say is not among them."""
    problems: tuple[str, ...]
    """For people: each names its check or pod."""
    idle: frozenset[str] = frozenset()
    """Checks that were not asked this time, or whose source has nothing new yet. Others without counts have failed."""


_NEARLY = 0.9
"""Of an interval: a timer may be early."""

Run = Callable[[dict[str, Any]], Awaitable[Mapping[str, Any]]]
"""The Job of a manifest as it is now; it is made if there is none. Raises NoJob where that can't be."""
Answered = tuple[counts.Counts | None, tuple[str, ...]]
"""Counts, if there are some, and problems."""


class Gatherer:
    """Looks at one release. `logs` and `box` are those of its log and feedback checks, where it has such; `pool` is
    that of its Prometheus (`Pools.of`), where releases share one; `run` runs Jobs, for the Release with this `uid`."""

    def __init__(
        self,
        analysis: Analysis,
        session: aiohttp.ClientSession,
        secrets: Secrets,
        since: float,
        *,
        pool: Pool | None = None,
        logs: Logs | None = None,
        box: Box | None = None,
        run: Run | None = None,
        uid: str = "",
    ) -> None:
        """`since` is now, in seconds since the epoch: what is read from now on counts.

        Raises ValueError for a Secret that is missing or is not what it should be.
        """
        self._analysis = analysis
        self._session = session
        self._secrets = secrets
        self._since = since
        self._logs = logs
        self._box = box
        self._run = run
        self._uid = uid
        source = analysis.sources.prometheus
        if source is not None and pool is None:
            pool = Pool(session, access(source, secrets))
        self._pool = pool if source is not None else None
        self._to: Access | None = self._pool.to if self._pool is not None else None
        self._choices: dict[str, Choice] = {}
        self._kept: dict[str, dict[str, Seen]] = {}
        self._until: dict[str, float] = {}
        """By check: when its last interval ended."""
        self._said: dict[str, tuple[str, ...]] = {}
        """By check that keeps to the interval: its problems at the last look that was its own."""
        self._failed: dict[str, int] = {}
        """By webhook: failures in a row."""
        self._over: dict[str, Outcome] = {}
        """What checks have said that say it once and for all."""

    async def look(self, now: float, pods: Pods, facts: Facts) -> Look:
        """What happened until `now` (seconds since the epoch). Cancelling it loses nothing but this look."""
        problems: list[str] = []
        found: dict[str, counts.Counts] = {}
        idle: set[str] = set()
        counted = self._named(pods)
        scrapes = await self._scrapes(now, counted, problems)
        for check in self._analysis.checks:
            counts_it = check.errors is not None or check.latency is not None
            if counts_it and self._counters(check, now, counted, scrapes, found, problems):
                idle.add(check.title)
        requests = _requests(found)
        for check in self._analysis.checks:
            name, begun = check.title, self._begun(check)
            if check.logs is not None and self._logs is not None:
                if not self._due(check, now):
                    idle.add(name)
                    continue
                found[name], said = self._logs.take(begun, now)
                problems += said
                self._until[name] = now
            if check.feedback is not None and self._box is not None:
                found[name] = self._box.take(begun, now, *requests)
                self._until[name] = now
        due = [check for check in self._analysis.checks if _others(check) and self._asked(check, now, facts)]
        idle |= {check.title for check in self._analysis.checks if _others(check) and check not in due}
        asked = (self._queried(check, now, pods, facts) for check in due)
        for check, (one, said) in zip(due, await asyncio.gather(*asked), strict=True):
            self._said[check.title] = said
            if one is not None:
                found[check.title] = one
        problems += [problem for said in self._said.values() for problem in said]
        return Look(tuple(found.items()), tuple(dict.fromkeys(problems)), frozenset(idle))

    def _named(self, pods: Pods) -> Pods:
        """The pods as series name them."""
        source = self._analysis.sources.prometheus
        return pods.by_version if source is not None and source.version_label else pods

    def _begun(self, check: Check) -> float:
        """When the interval of a check began."""
        return self._until.get(check.title, self._since)

    def _due(self, check: Check, now: float) -> bool:
        """Whether an interval has passed since its last one. What comes over time (a line that a pod writes again and
        again, a value, an answer) would count more than once if it were looked at more often, as pods are."""
        last = self._until.get(check.title)
        return last is None or now - last >= _NEARLY * seconds(self._analysis.interval)

    # --- counters ---

    async def _scrapes(self, now: float, pods: Pods, problems: list[str]) -> list[Scrape]:
        checks = [check for check in self._analysis.checks if check.errors is not None or check.latency is not None]
        if not checks:
            return []
        if self._pool is None:
            limit = seconds(self._analysis.sources.pods.timeout)
            found = await scrape(self._session, pods.all, now, seconds=limit)
            problems += [f"pod {one.target.pod}: {one.problem}" for one in found if one.problem]
            return found
        names = {name for check in checks for name in metric_names(self._choices.get(check.title), names_of(check))}
        targets = {(pods.namespace, target.pod): target for target in pods.all}
        by = clock(self._choices.values())
        try:
            return list((await self._pool.counters(targets, sorted(names), by)).values())
        except (Unavailable, QueryError) as error:
            problems.append(str(error))
            return []

    def _counters(
        self,
        check: Check,
        now: float,
        pods: Pods,
        scrapes: list[Scrape],
        found: dict[str, counts.Counts],
        problems: list[str],
    ) -> bool:
        """The interval of a check of errors or latency, if there is one. Whether there is nothing new yet."""
        name = check.title
        if not any(one.exposition is not None for one in scrapes):
            self._kept[name] = {}
            return False
        choice = self._choices.get(name) or part(choose(scrapes, names_of(check)), check)
        if choice is None:
            problems.append(f"{name}: no series of the pods feeds it; `davy analysis detect` shows what there is")
            return False
        self._choices[name] = choice
        standing = standing_of(scrapes, choice, check, problems)
        before = self._kept.get(name, {})
        begun = self._begun(check)
        if self._to is not None:
            if standing and not ripe(before, standing):
                return True
            standing = fresh(before, standing)
        self._kept[name], differences = advance(before, standing)
        self._until[name] = now
        if not differences:
            return False
        canary = {target.pod for target in pods.canary}
        events, latencies, said = interval(begun, now, differences, canary)
        problems += said
        found[name] = events if check.errors is not None else latencies
        return False

    # --- queries, webhooks ---

    def _asked(self, check: Check, now: float, facts: Facts) -> bool:
        """Nothing is asked before the first step is in effect: until then there is nothing to be said of the canary."""
        return facts.step >= 1 and (check.title in self._over or self._due(check, now))

    async def _queried(self, check: Check, now: float, pods: Pods, facts: Facts) -> Answered:
        begun = self._begun(check)
        if (last := self._over.get(check.title)) is not None:
            self._until[check.title] = now
            return _told(last, begun, now), ()
        try:
            if check.job is not None:
                found = await self._job(check, begun, now, facts)
            elif check.webhook is not None:
                outcome = await ask(self._session, check.webhook, check.title, facts, self._secrets)
                found = self._judged(check, begun, now, outcome)
            elif self._to is None:
                return None, ()  # `review` has said that these need a Prometheus
            elif check.kayenta is not None:
                found = await self._kayenta(check, self._to, begun, now, pods)
            elif check.metric is not None:
                found = await self._metric(check, self._to, begun, now, pods)
            else:
                found = await self._threshold(check, self._to, begun, now, pods)
        except (Unavailable, QueryError, NoJob) as error:
            found = None, (str(error),)
        self._until[check.title] = now
        return found

    async def _kayenta(self, check: Check, to: Access, begun: float, now: float, pods: Pods) -> Answered:
        """The judge looks once, when its time is over; where it gets no answer then, again after an interval."""
        assert check.kayenta is not None
        if (left := self._since + seconds(check.kayenta.length) - now) > 0:
            return counts.Outcome(begun, now, None, f"{check.title}: the judge looks in {readable(left)}"), ()
        stable, canary = ([target.pod for target in side] for side in (pods.stable, pods.canary))
        asked = (check.kayenta, check.title, pods.namespace, stable, canary)
        outcome = await judge(self._session, to, *asked, self._since, now)
        self._over[check.title] = outcome
        return _told(outcome, begun, now), ()

    async def _job(self, check: Check, begun: float, now: float, facts: Facts) -> Answered:
        assert check.job is not None
        if self._run is None:
            return None, ()
        job = await self._run(job_manifest(check.job, check.title, facts, self._uid))
        outcome = job_outcome(job, check.title, now, seconds(check.job.timeout))
        if outcome.passed is None and not outcome.pending:
            return None, (outcome.message,)
        if outcome.passed is not None:
            self._over[check.title] = outcome
        return _told(outcome, begun, now), ()

    async def _metric(self, check: Check, to: Access, begun: float, now: float, pods: Pods) -> Answered:
        assert check.metric is not None
        written = check.metric.query
        series = await self._instant(check, to, written, pods, now - begun)
        values, problems = by_pod(series, to.pod_label, written, check.title)
        named = self._named(pods)
        stable, canary = (_samples(side, values) for side in (named.stable, named.canary))
        if not values and not problems:
            return None, (f"{check.title}: no data; the query is: {written}",)
        return counts.Samples(begun, now, stable, canary), problems

    async def _threshold(self, check: Check, to: Access, begun: float, now: float, pods: Pods) -> Answered:
        assert check.threshold is not None
        written = check.threshold.query
        series = await self._instant(check, to, written, pods, now - begun)
        value, problem = one_value(series, written, check.title)
        return (None, (problem,)) if value is None else (counts.Value(begun, now, value), ())

    async def _instant(self, check: Check, to: Access, written: str, pods: Pods, window: float) -> list[Series]:
        """As `prometheus.instant`, for a query with variables; messages show it as it is written in the policy."""
        query = _query(written, pods, window)
        try:
            return await instant(self._session, to, query, check.title)
        except QueryError as error:
            raise QueryError(str(error).replace(query, written)) from None

    def _judged(self, check: Check, begun: float, now: float, outcome: Outcome) -> Answered:
        """A failure counts once there are as many in a row as the webhook's `times`."""
        assert check.webhook is not None
        if outcome.passed is None:
            return None, (outcome.message,)
        failed = 0 if outcome.passed else self._failed.get(check.title, 0) + 1
        self._failed[check.title] = failed
        if 0 < failed < check.webhook.times:
            why = outcome.message.removeprefix(f"{check.title}: ")
            so_far = f"{check.title}: {failed} of {check.webhook.times} failures in a row, {why}"
            return counts.Outcome(begun, now, None, so_far), ()
        return counts.Outcome(begun, now, outcome.passed, outcome.message), ()


def _others(check: Check) -> bool:
    """Whether it is a query, or somebody else's check."""
    return any((check.metric, check.threshold, check.webhook, check.job, check.kayenta))


def _told(outcome: Outcome, begun: float, now: float) -> counts.Outcome:
    """What is final holds in every interval, so that it does not look like data that stays away."""
    return counts.Outcome(begun, now, outcome.passed, outcome.message)


def _requests(found: Mapping[str, counts.Counts]) -> tuple[int, int]:
    """Requests of stable and of the canary in this look, of the first check that counted them."""
    for one in found.values():
        if isinstance(one, counts.Events):
            return sum(pod.requests for pod in one.stable), sum(pod.requests for pod in one.canary)
    return 0, 0


def _query(query: str, pods: Pods, window: float) -> str:
    stable, canary = ([target.pod for target in side] for side in (pods.stable, pods.canary))
    return filled(query, namespace=pods.namespace, stable=stable, canary=canary, window=window)


def _samples(side: Iterable[Target], values: Mapping[str, float]) -> tuple[counts.Sample, ...]:
    return tuple(counts.Sample(values[target.pod], target.pod) for target in side if target.pod in values)
