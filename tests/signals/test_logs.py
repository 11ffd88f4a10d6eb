"""Logs of a release's pods: what is new, what is known, what is left out, and what is never kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from davylamp.analysis.counts import Template, validate
from davylamp.signals import logs
from davylamp.signals.lines import Entry, Joiner, Level
from davylamp.signals.logs import Logs, Templates, learn, sample


def ids(templates: Templates, *messages: str) -> list[str | None]:
    return [templates.see(Entry(Level.ERROR, message)) for message in messages]


def test_messages_that_differ_in_numbers_and_names_are_one_template() -> None:
    templates = Templates()
    found = ids(
        templates,
        "could not save order 17 of user alice to db-1: refused",
        "could not save order 99 of user bob to db-2: refused",
    )
    assert len(set(found)) == 1
    assert found[0] is not None
    assert len(found[0]) == 16
    assert templates.text(found[0]) == "could not save order <number> of user <*> to db<number>: refused"
    assert templates.example(found[0]) == "could not save order 17 of user alice to db-1: refused"


def test_another_exception_is_another_template_however_like_the_message() -> None:
    templates = Templates()
    one = templates.see(Entry(Level.ERROR, "request failed", "TimeoutError", "no answer within 3 s"))
    other = templates.see(Entry(Level.ERROR, "request failed", "ConnectionError", "no answer within 3 s"))
    assert one != other


def test_the_same_first_message_has_the_same_id_in_another_process() -> None:
    assert ids(Templates(), "disk full") == ids(Templates(), "disk full")


def test_only_what_is_bad_enough_and_not_ignored_counts() -> None:
    errors = Templates(ignore=["^deprecated", "favicon"])
    assert errors.see(Entry(Level.WARNING, "slow")) is None
    assert errors.see(Entry(Level.ERROR, "deprecated call")) is None
    assert errors.see(Entry(Level.ERROR, "no favicon.ico")) is None
    assert Templates(Level.WARNING).see(Entry(Level.WARNING, "slow")) is not None


def test_secrets_are_in_neither_template_nor_example() -> None:
    templates = Templates()
    (found,) = ids(templates, "login of jane@example.com failed, password=hunter2 token: abcdef0123")
    assert found is not None
    for text in (templates.text(found), templates.example(found)):
        assert "login" in text
        assert not any(secret in text for secret in ("jane", "hunter2", "abcdef0123"))


def test_no_more_templates_are_kept_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MOST_TEMPLATES", 10)
    templates = Templates()
    words = [f"{a}{b}" for a in "abcdefgh" for b in "abcdefgh"]
    found = ids(templates, *(f"{word} {word}x {word}y {word}z" for word in words))
    assert len(set(found)) == 64
    assert len([one for one in found if one and templates.example(one)]) <= 20
    assert found[-1] is not None
    assert templates.text(found[-1])


class Pods:
    """Logs that grow when told to, as the API server serves them."""

    def __init__(self, **before: str) -> None:
        self.before = before
        self.queues: dict[str, asyncio.Queue[str | Exception | None]] = {}
        self.opened: list[tuple[str, int | None]] = []

    async def read(self, pod: str, lines: int) -> str:
        if pod not in self.before:
            raise ConnectionError("no such pod")
        return self.before[pod]

    async def follow(self, pod: str, since: int | None) -> AsyncGenerator[str, None]:
        self.opened.append((pod, since))
        queue = self.queues.setdefault(pod, asyncio.Queue())
        while True:
            line = await queue.get()
            if not isinstance(line, str):
                queue.task_done()
                if line is None:
                    return
                raise line
            yield line
            queue.task_done()

    async def write(self, pod: str, *lines: str | Exception | None) -> None:
        """Write, and wait until it was read."""
        queue = self.queues.setdefault(pod, asyncio.Queue())
        for line in lines:
            queue.put_nowait(line)
        await queue.join()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting for silent pods, unfinished traces and broken streams."""
    monkeypatch.setattr(logs, "_SETTLED", 0.0)
    monkeypatch.setattr(logs, "_UNFINISHED", 0.0)
    monkeypatch.setattr(logs, "_AGAIN", (0.0,))


TRACE = ("ERROR order failed", "Traceback (most recent call last):", '  File "a.py", line 1, in f', "KeyError: 'id'")


async def test_a_new_exception_of_the_canary_is_found_beside_what_stable_always_wrote() -> None:
    pods = Pods(s1="INFO up\nERROR cache is cold\n")
    templates = Templates()
    assert await learn(templates, pods.read, ["s1"]) == ()
    watched = Logs(pods.follow, templates)
    watched.watch(["s1", "s2"], ["c1"])
    await pods.write("s1", "ERROR cache is cold", "INFO fine")
    await pods.write("s2", "INFO fine")
    await pods.write("c1", "ERROR cache is cold", *TRACE, *TRACE)
    found, problems = watched.take(0, 10, stable_requests=90, canary_requests=10)
    validate(found)
    assert problems == ()
    assert (found.stable_pods, found.canary_pods, found.stable_requests, found.canary_requests) == (2, 1, 90, 10)
    known, novel = found.templates
    assert (known.known, known.stable, known.canary) == (True, 1, 1)
    assert (novel.known, novel.stable, novel.canary) == (False, 0, 1)
    assert templates.text(novel.id) == "KeyError order failed KeyError: 'id'"
    assert templates.example(novel.id) == "order failed KeyError: 'id'"
    again, _ = watched.take(10, 20)
    assert (again.templates, again.stable_pods, again.canary_pods) == ((), 2, 1)
    await watched.close()


async def test_a_stable_pod_is_read_from_now_and_a_canary_from_its_beginning() -> None:
    pods = Pods()
    watched = Logs(pods.follow, Templates())
    watched.watch(["s1"], ["c1"])
    await pods.write("s1", "INFO fine")
    await pods.write("c1", "INFO fine")
    assert sorted(pods.opened) == [("c1", None), ("s1", 1)]
    await watched.close()


async def test_what_a_crashing_canary_wrote_counts_though_its_log_has_ended() -> None:
    pods = Pods()
    watched = Logs(pods.follow, Templates())
    watched.watch(["s1"], ["c1"])
    await pods.write("s1", "INFO fine")
    await pods.write("c1", "panic: no config", "", "goroutine 1 [running]:", None)
    found, _ = watched.take(0, 10)
    assert found.canary_pods == 1
    assert [(one.stable, one.canary) for one in found.templates] == [(0, 1)]
    await watched.close()


async def test_a_log_that_can_not_be_read_is_said_and_tried_again_from_where_it_broke_off() -> None:
    pods = Pods()
    watched = Logs(pods.follow, Templates())
    watched.watch(["s1"], ["c1"])
    await pods.write("c1", "INFO fine", ConnectionError("container is creating"))
    for _ in range(5):
        await asyncio.sleep(0)
    _, problems = watched.take(0, 10)
    assert problems == ("the log of pod c1 can't be read: container is creating",)
    await pods.write("c1", "ERROR boom")
    found, problems = watched.take(10, 20)
    assert (problems, [one.canary for one in found.templates]) == ((), [1])
    assert [since for pod, since in pods.opened if pod == "c1"] == [None, 1]
    await watched.close()


async def test_pods_that_go_are_not_followed_on() -> None:
    pods = Pods()
    watched = Logs(pods.follow, Templates())
    watched.watch(["s1", "s2"], ["c1"])
    await pods.write("s2", "ERROR bye")
    watched.watch(["s1"], ["c1"])
    found, _ = watched.take(0, 10)
    assert (found.stable_pods, found.templates) == (1, ())
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "log of s2" and not task.cancelling()]
    await watched.close()


async def test_a_flood_is_read_to_its_limit_and_said() -> None:
    pods = Pods()
    watched = Logs(pods.follow, Templates(), max_bytes_per_second=2000)
    watched.watch([], ["c1"])
    queue = pods.queues.setdefault("c1", asyncio.Queue())
    for _ in range(10_000):
        queue.put_nowait("ERROR the same again and again and again")
    for _ in range(300):
        await asyncio.sleep(0)
    found, problems = watched.take(0, 10)
    assert [one.canary for one in found.templates] == [1]
    (problem,) = problems
    assert problem.startswith("pod c1 logs more than 2 kB/s: ")
    assert queue.qsize() > 9000, "who floods has to wait"
    await watched.close()


async def test_a_trace_that_is_still_being_written_waits_for_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_UNFINISHED", 60.0)
    pods = Pods()
    watched = Logs(pods.follow, Templates())
    watched.watch([], ["c1"])
    await pods.write("c1", *TRACE[:2])
    assert watched.take(0, 10)[0].templates == ()
    await pods.write("c1", *TRACE[2:], "INFO next")
    (found,) = watched.take(10, 20)[0].templates
    assert isinstance(found, Template)
    await watched.close()


async def test_history_that_can_not_be_read_is_said() -> None:
    assert await learn(Templates(), Pods().read, ["s1"]) == ("the log of pod s1 can't be read: no such pod",)


def test_the_sample_of_stable_is_as_large_as_the_canary_and_always_the_same() -> None:
    pods = [f"web-{n}" for n in range(20)]
    assert sample(pods, 3) == sample(list(reversed(pods)), 3)
    assert [len(sample(pods, canary)) for canary in (0, 1, 3, 9)] == [2, 2, 3, 5]
    assert sample(["only"], 3) == ("only",)


def test_an_entry_without_end_ends_somewhere() -> None:
    joiner = Joiner()
    found = [entry for _ in range(5000) for entry in joiner.add("  indented")]
    assert len(found) > 5
