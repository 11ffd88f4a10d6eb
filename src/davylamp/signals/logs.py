"""Application logs of a release: which error messages and stack traces each version's pods write.

Lines of all pods become entries (`lines`), entries of some severity become templates by Drain (He, Zhu, Zheng & Lyu,
ICWS 2017; the library drain3), and what is handed on is which templates occurred in how many pods in an interval.
Nothing of a line is kept but, for each template, its text and one example, both without secrets (`masking`).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence

from drain3.drain import Drain

from davylamp.analysis import counts
from davylamp.signals.lines import Entry, Joiner, Level
from davylamp.signals.masking import safe, shape

log = logging.getLogger(__name__)

MOST_TEMPLATES = 500
"""That are told apart in one release; the ones longest unseen are forgotten first."""
HISTORY = 2000
"""Lines of a stable pod's log that tell what is known."""
_TOKENS = 48
_READ = 1000
"""Characters of a message that are looked at."""
_EXAMPLE = 300
_AGAIN = (1.0, 2.0, 5.0, 10.0)
_SETTLED = 5.0
"""Seconds after which a stream that has given nothing, and no error, counts as open: the pod is silent."""
_UNFINISHED = 1.0
"""Seconds in which the next line of a stack trace comes, if there is one."""
_PAUSE = 0.1
"""Seconds for which a stream is not read on once it is that far beyond its budget, so that the sender has to wait."""
_BURST = 4.0
"""Seconds' worth of bytes that may come at once."""

Open = Callable[[str, int | None], AsyncGenerator[str, None]]
"""Follows a pod's log from so many seconds ago (None: from its beginning), as `Api.follow_logs` does."""
Read = Callable[[str, int], Awaitable[str]]
"""The last so many lines of a pod's log, as `Api.logs` gives them."""


class Templates:
    """The messages of one release, with their variable parts removed."""

    def __init__(self, level: Level = Level.ERROR, ignore: Sequence[str] = ()) -> None:
        # Two leading tokens (severity, type of the exception) must be equal, and 7 of 10 of all.
        self._drain = Drain(depth=5, sim_th=0.7, max_children=MOST_TEMPLATES, max_clusters=MOST_TEMPLATES)
        self._level = level
        self._ignore = [re.compile(pattern) for pattern in ignore]
        self._ids: dict[int, str] = {}
        self._examples: dict[str, str] = {}
        self._known: set[str] = set()

    def see(self, entry: Entry, *, known: bool = False) -> str | None:
        """The id of the entry's template, None if the entry does not count. `known`: from stable's history."""
        if entry.level < self._level or any(pattern.search(entry.message) for pattern in self._ignore):
            return None
        said = ": ".join(filter(None, (entry.exception, entry.detail)))
        text = safe(" ".join(filter(None, (entry.message[:_READ], said[:_READ]))))
        tokens = f"{entry.level.name} {entry.exception or '-'} {shape(text)}".split()
        cluster, _ = self._drain.add_log_message(" ".join(tokens[:_TOKENS]))
        found = self._ids.get(cluster.cluster_id)
        if found is None:
            found = self._new(cluster.cluster_id, cluster.get_template(), text)
        if known:
            self._known.add(found)
        return found

    def _new(self, cluster: int, template: str, text: str) -> str:
        # The same first message gives the same id after a restart of the controller, too.
        found = hashlib.blake2b(template.encode(), digest_size=8).hexdigest()
        self._ids[cluster] = found
        self._examples.setdefault(found, text[:_EXAMPLE])
        if len(self._ids) > 2 * MOST_TEMPLATES:
            alive = {one.cluster_id for one in self._drain.clusters}
            self._ids = {key: value for key, value in self._ids.items() if key in alive}
            kept = set(self._ids.values())
            self._examples = {key: value for key, value in self._examples.items() if key in kept}
            self._known &= kept
        return found

    def known(self, template: str) -> bool:
        """Whether stable wrote it before the canary started."""
        return template in self._known

    def text(self, template: str) -> str:
        """The template as a person reads it, empty if it is forgotten."""
        for one in self._drain.clusters:
            if self._ids.get(one.cluster_id) == template:
                return " ".join(token for token in one.log_template_tokens[1:] if token != "-")
        return ""

    def example(self, template: str) -> str:
        """One line that has it, without secrets; empty if it is forgotten."""
        return self._examples.get(template, "")


class _Pod:
    """One pod's stream."""

    def __init__(self, canary: bool) -> None:
        self.canary = canary
        self.joiner = Joiner()
        self.since: float | None = None
        """When the stream was opened, in the loop's time; None while it isn't."""
        self.last = 0.0
        """When the last line came."""
        self.budget = 0.0
        self.filled = 0.0
        self.dropped = 0
        """Bytes not read since the last `take`."""
        self.behind = 0
        """Bytes not read since the last pause."""
        self.problem = ""
        self.task: asyncio.Task[None] | None = None


class Logs:
    """Follows the logs of a release's pods. To be used inside one event loop; `close` ends all streams."""

    def __init__(self, follow: Open, templates: Templates, *, max_bytes_per_second: int = 262_144) -> None:
        self._follow = follow
        self._templates = templates
        self._rate = max_bytes_per_second
        self._pods: dict[str, _Pod] = {}
        self._written: dict[str, set[str]] = {}
        """By template, in the order of first appearance: the pods that wrote it since the last `take`."""
        self._began: float | None = None
        """When the interval began, in the loop's time."""

    def watch(self, stable: Iterable[str], canary: Iterable[str]) -> None:
        """Follow these pods, and no others. A canary's pod is read from its beginning."""
        wanted = dict.fromkeys(stable, False) | dict.fromkeys(canary, True)
        for name in self._pods.keys() - wanted.keys():
            task = self._pods.pop(name).task
            if task is not None:
                task.cancel()
        for name, is_canary in wanted.items():
            if name not in self._pods:
                pod = self._pods[name] = _Pod(is_canary)
                pod.task = asyncio.create_task(self._stream(name, pod), name=f"log of {name}")
        if self._began is None:
            self._began = asyncio.get_running_loop().time()

    def take(
        self, start: float, end: float, *, stable_requests: int = 0, canary_requests: int = 0
    ) -> tuple[counts.Logs, tuple[str, ...]]:
        """What was written since the last call, which was at `start` (now is `end`, seconds since the epoch), by the
        pods whose logs were read in that time; and a sentence for each pod with a problem. The numbers of requests
        are those pods' own."""
        now = asyncio.get_running_loop().time()
        for name, pod in self._pods.items():
            if now - pod.last >= _UNFINISHED:
                self._count(name, pod.joiner.flush())
        began, self._began = now if self._began is None else self._began, now
        written, self._written = self._written, {}
        read = {name: pod.canary for name, pod in self._pods.items() if _was_read(pod, began, now)}
        templates = []
        for one, pods in written.items():
            sides = [read[pod] for pod in pods if pod in read]
            if sides:
                known = self._templates.known(one)
                templates.append(counts.Template(one, known, sides.count(False), sides.count(True)))
        canary = sum(read.values())
        problems = tuple(filter(None, (self._problem(name, pod) for name, pod in self._pods.items())))
        requests = (stable_requests, canary_requests)
        return counts.Logs(start, end, len(read) - canary, canary, tuple(templates), *requests), problems

    async def close(self) -> None:
        """End all streams, and wait until they have."""
        tasks = [pod.task for pod in self._pods.values() if pod.task is not None]
        self.watch((), ())
        await asyncio.gather(*tasks, return_exceptions=True)

    def _problem(self, name: str, pod: _Pod) -> str:
        if pod.dropped:
            lost, pod.dropped = pod.dropped, 0
            return f"pod {name} logs more than {self._rate / 1000:g} kB/s: {lost / 1000:.0f} kB of it were not read"
        return f"the log of pod {name} can't be read: {pod.problem}" if pod.problem else ""

    async def _stream(self, name: str, pod: _Pod) -> None:
        """Follow the pod until cancelled; after an end or an error again, from where it broke off."""
        loop = asyncio.get_running_loop()
        failed = 0
        since = None if pod.canary else 1
        while True:
            pod.since = loop.time() + _SETTLED
            try:
                async with contextlib.aclosing(self._follow(name, since)) as lines:
                    async for line in lines:
                        failed, pod.problem = 0, ""
                        pod.last = loop.time()
                        pod.since = min(pod.since, pod.last)
                        await self._line(name, pod, line)
            except Exception as error:
                # Whatever it is, this pod's log is not read meanwhile, and that is said; the others' are.
                pod.problem = str(error) or type(error).__name__
                log.debug("log of pod %s: %s", name, pod.problem)
            broke, pod.since = loop.time(), None
            await asyncio.sleep(_AGAIN[min(failed, len(_AGAIN) - 1)])
            failed += 1
            since = max(1, round(loop.time() - max(pod.last, broke)) + 1) if pod.last else since

    async def _line(self, name: str, pod: _Pod, line: str) -> None:
        """Read a line, if the pod's budget of bytes allows it. Whoever is far beyond it is made to wait."""
        pod.budget = min(_BURST * self._rate, pod.budget + (pod.last - pod.filled) * self._rate)
        pod.filled = pod.last
        size = len(line) + 1
        if pod.budget < size:
            pod.dropped += size
            pod.behind += size
            if pod.behind > self._rate * _PAUSE:
                pod.behind = 0
                await asyncio.sleep(_PAUSE)
            return
        pod.budget -= size
        self._count(name, pod.joiner.add(line))

    def _count(self, name: str, entries: Iterable[Entry]) -> None:
        for entry in entries:
            template = self._templates.see(entry)
            if template is not None:
                self._written.setdefault(template, set()).add(name)


def _was_read(pod: _Pod, began: float, now: float) -> bool:
    """Also that of a pod whose container has ended meanwhile: what it wrote before is what matters."""
    return pod.last >= began or (pod.since is not None and pod.since <= now)


async def learn(templates: Templates, read: Read, pods: Iterable[str]) -> tuple[str, ...]:
    """Teach `templates` what these (stable) pods wrote before; a sentence for each whose log can't be read."""
    problems = []
    for pod in pods:
        try:
            text = await read(pod, HISTORY)
        except Exception as error:
            problems.append(f"the log of pod {pod} can't be read: {error}")
            continue
        joiner = Joiner()
        for line in text.splitlines():
            for entry in joiner.add(line):
                templates.see(entry, known=True)
        for entry in joiner.flush():
            templates.see(entry, known=True)
    return tuple(problems)


def sample(pods: Iterable[str], canary: int, most: int = 5) -> tuple[str, ...]:
    """The stable pods whose logs are read: as many as the canary has, at least two, at most `most`; the same ones
    each time, however the list is ordered."""
    ranked = sorted(pods, key=lambda pod: hashlib.blake2b(pod.encode(), digest_size=8).digest())
    return tuple(ranked[: max(2, min(canary, most))])
