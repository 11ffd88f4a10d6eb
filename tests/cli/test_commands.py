"""What people ask of a release: what is written, what is refused, and what is so already."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from davylamp.cli import exits
from davylamp.kube.errors import ApiError
from tests.cli.conftest import Davy, Serve
from tests.core.model import Cluster
from tests.view import situations
from tests.view.situations import in_step, started

ANN = {"by": "ann (ann@laptop)"}


@pytest.mark.parametrize(
    ("command", "situation", "written"),
    [
        (["pause", "web", "--reason", "lunch"], lambda: in_step(1), {"paused": ANN | {"reason": "lunch"}}),
        (["pause", "web"], lambda: in_step(1), {"paused": ANN}),
        (["resume", "web"], situations.paused, {}),
        (["approve", "web"], situations.awaiting, {"approved": ANN | {"step": 2}}),
        (["approve", "web", "--step", "2"], situations.awaiting, {"approved": ANN | {"step": 2}}),
        (["abort", "web", "--reason", "no"], lambda: in_step(2), {"abort": ANN | {"reason": "no"}}),
        (["abort", "web"], situations.keeping, {"abort": ANN}),
        (["promote", "web"], lambda: in_step(1), {"promote": ANN}),
        (["retry", "web"], situations.held, {"retry": ANN}),
    ],
)
def test_a_command_is_a_field_of_the_release_with_a_name_and_a_reason(
    davy: Davy, serve: Serve, command: list[str], situation: Callable[[], Cluster], written: dict[str, object]
) -> None:
    server = serve(situation())
    result = davy(*command)
    assert (result.code, result.err) == (exits.OK, "")
    fields = ("paused", "approved", "abort", "promote", "retry")
    asked = {key: {k: v for k, v in value.items() if v} for key, value in server.asked().items() if key in fields}
    assert asked == written
    assert [verb for verb, _ in server.writes] == ["patch"], "one write, and never of the status"


def test_a_command_says_what_it_did_and_what_comes_next(davy: Davy, serve: Serve) -> None:
    serve(in_step(1))
    name = "web-bc87ce785f-1"
    assert davy("pause", "web").out == f"shop/web: release {name} paused in step 1; `davy resume web` goes on\n"
    assert davy("resume", "-n", "shop", "web").out == f"shop/web: release {name} goes on\n"
    assert davy("abort", "web", "-n", "shop").out == (
        f"shop/web: release {name} is being taken back; `davy watch -n shop web` shows how\n"
    )


REFUSALS: list[tuple[list[str], Callable[[], Cluster], str]] = [
    (["approve", "web"], lambda: in_step(1), "step 1 (10 %) needs no approval; the steps that do: 2"),
    (["approve", "web", "--step", "2"], lambda: in_step(1), "step 2 is not reached yet, release {} is in step 1"),
    (["approve", "web", "--step", "3"], situations.awaiting, "step 3 (100 %) needs no approval; the steps that do: 2"),
    (["approve", "web"], situations.waiting_for_pods, "release {} has not reached its first step yet"),
    (["pause", "web"], situations.crashing, "release {} is being taken back: container hellok8s"),
    (["promote", "web"], situations.crashing, "release {} is being taken back: container hellok8s"),
    (["pause", "web"], situations.adopted, "release {} is complete but for clearing up"),
    (["abort", "web"], situations.adopted, "its pods serve alone, so there is nothing to take back"),
    (["pause", "web"], situations.keeping, "release {} is complete and only keeps the old pods for a while"),
    (["abort", "web"], situations.done, "no release is under way; the last one, {}, is Completed"),
    (["resume", "web"], situations.held, "no release is under way; the last one, {}, is RolledBack"),
    (["pause", "web"], situations.without_policy, "there is no release of it yet"),
    (["pause", "web"], situations.retried, "no release is under way yet; release web-bc87ce785f-2"),
    (["retry", "web"], situations.done, "no template is held back; all pods run hellok8s:v2"),
    (["retry", "web"], lambda: in_step(1), "release {} is under way; nothing is held back"),
    (["retry", "web"], situations.reverted, "the template that release {} rejected is not the Deployment's any more"),
]


@pytest.mark.parametrize(("command", "situation", "why"), REFUSALS)
def test_what_makes_no_sense_now_is_refused_with_the_reason(
    davy: Davy, serve: Serve, command: list[str], situation: Callable[[], Cluster], why: str
) -> None:
    server = serve(situation())
    result = davy(*command)
    assert result.code == exits.REFUSED
    assert result.err.startswith(f"davy: can't {command[0]} shop/web: ")
    assert why.format("web-bc87ce785f-1") in result.err
    assert len(result.err.splitlines()) == 1
    assert server.writes == []


@pytest.mark.parametrize(
    ("command", "situation"),
    [
        ("pause", lambda: in_step(1)),
        ("resume", situations.paused),
        ("approve", situations.awaiting),
        ("abort", lambda: in_step(1)),
        ("promote", lambda: in_step(1)),
        ("retry", situations.held),
    ],
)
def test_the_same_command_twice_is_no_failure_and_no_write(
    davy: Davy, serve: Serve, command: str, situation: Callable[[], Cluster]
) -> None:
    server = serve(situation())
    davy(command, "web")
    again = davy(command, "web")
    assert again.code == exits.OK
    assert "already" in again.out or "not paused" in again.out
    assert len(server.writes) == 1


@pytest.mark.parametrize(("command", "end"), [("abort", "RolledBack"), ("promote", "Completed")])
def test_a_command_that_has_ended_the_release_may_be_repeated(davy: Davy, serve: Serve, command: str, end: str) -> None:
    cluster = in_step(1)
    cluster.command(**{command: {"by": "bob"}})
    cluster.run()
    result = davy_on(davy, serve, cluster, command)
    assert result == f"shop/web: release web-bc87ce785f-1 is {end} already, by bob\n"


def davy_on(davy: Davy, serve: Serve, cluster: Cluster, command: str) -> str:
    serve(cluster)
    result = davy(command, "web")
    assert result.code == exits.OK, result.err
    return result.out


def test_a_retry_may_be_repeated_while_the_next_attempt_is_under_way(davy: Davy, serve: Serve) -> None:
    cluster = situations.retried()
    cluster.look()
    assert "attempt 2 of this template, is under way already" in davy_on(davy, serve, cluster, "retry")


def test_approving_a_paused_release_says_that_it_stays_paused(davy: Davy, serve: Serve) -> None:
    cluster = situations.awaiting()
    cluster.command(paused={"by": "bob"})
    assert "it is paused, by bob: `davy resume web` goes on" in davy_on(davy, serve, cluster, "approve")


def test_a_step_that_does_not_exist_is_bad_input(davy: Davy, serve: Serve) -> None:
    serve(situations.awaiting())
    result = davy("approve", "web", "--step", "9")
    assert (result.code, result.err) == (
        exits.BAD_INPUT,
        "davy: --step 9: release web-bc87ce785f-1 has steps 1 to 3\n",
    )


def test_the_answer_for_programs_is_the_workload_after_the_write(davy: Davy, serve: Serve) -> None:
    serve(in_step(1))
    assert davy("pause", "web", "-o", "name").out == "release.davylamp.dev/web-bc87ce785f-1\n"
    content = json.loads(davy("pause", "web", "-o", "json").out)
    assert (content["state"], content["release"]["paused"]["by"]) == ("Paused", "ann (ann@laptop)")


def test_a_release_that_is_gone_by_the_time_of_the_write_is_said_to_be(davy: Davy, serve: Serve) -> None:
    server = serve(in_step(1))

    def gone(verb: str, ref: object) -> None:
        if verb == "patch":
            raise ApiError(404, "NotFound", "not found")

    server.before = gone
    result = davy("pause", "web")
    assert (result.code, result.err) == (exits.REFUSED, "davy: release web-bc87ce785f-1 of shop/web is gone\n")


# --- with --wait ---


def test_promote_and_wait_ends_with_the_completed_release(davy: Davy, serve: Serve) -> None:
    serve(in_step(1)).drives = True
    result = davy("promote", "web", "--wait", "--timeout", "10s")
    assert result.code == exits.OK
    assert result.lines[0].endswith("is being completed, whatever steps are left")
    assert result.lines[1] == "shop/web  release web-bc87ce785f-1  Completed just now: all pods run hellok8s:v2"


def test_abort_and_wait_succeeds_when_the_release_is_taken_back(davy: Davy, serve: Serve) -> None:
    serve(in_step(1)).drives = True
    result = davy("abort", "web", "--wait", "--reason", "no", "--timeout", "10s")
    assert result.code == exits.OK
    assert result.lines[1].endswith("RolledBack just now: aborted by ann (ann@laptop): no")


def test_approve_and_wait_fails_when_the_release_is_rolled_back_later(davy: Davy, serve: Serve) -> None:
    cluster = situations.awaiting()
    server = serve(cluster)
    server.drives = True
    for pod in cluster.all("Pod"):
        if "native" not in pod["metadata"]["name"]:
            pod["status"] = situations.CRASHING
    assert davy("approve", "web", "--wait", "--timeout", "10s").code == exits.ROLLED_BACK


def test_pause_and_wait_ends_when_the_release_stands_still(davy: Davy, serve: Serve) -> None:
    serve(situations.entering_50()).drives = True
    result = davy("pause", "web", "--wait", "--timeout", "10s")
    assert result.code == exits.OK
    assert "Paused in step 1 of 3" in result.out


def test_retry_and_wait_follows_the_next_attempt(davy: Davy, serve: Serve) -> None:
    cluster = situations.held()
    serve(cluster).drives = True
    cluster.sick_images.clear()
    cluster.get("ReleasePolicy", "web")["spec"]["steps"] = [{"weight": 50}, {"weight": 100}]
    result = davy("retry", "web", "--wait", "--timeout", "10s")
    assert result.code == exits.OK
    assert "release web-bc87ce785f-2  Completed" in result.out


def test_a_timeout_says_what_was_waited_for(davy: Davy, serve: Serve) -> None:
    serve(situations.paused())
    result = davy("promote", "web", "--wait", "--timeout", "50ms")
    assert result.code == exits.TIMED_OUT
    assert result.err.splitlines()[-1].startswith("davy: shop/web: not finished within the timeout (Promoting: ")


def test_a_timeout_without_wait_is_bad_input(davy: Davy, serve: Serve) -> None:
    serve(started())
    result = davy("abort", "web", "--timeout", "5s")
    assert (result.code, result.err) == (exits.BAD_INPUT, "davy: --timeout is for --wait\n")
