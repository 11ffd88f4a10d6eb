"""What is wrong with a canary's pods, in the containers' own words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from davylamp.api.objects import Pod, ReplicaSet
from davylamp.core.health import Illness, diagnose

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
DEADLINE = timedelta(minutes=10)


def pod(*, ready: bool = False, age: int = 60, since: int | None = None, message: str = "", **status: Any) -> Pod:
    """A pod made `age` seconds ago whose readiness last changed `since` seconds ago."""
    changed = NOW - timedelta(seconds=age if since is None else since)
    condition = {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": changed.isoformat()}
    meta = {"name": "web-1-x", "creationTimestamp": (NOW - timedelta(seconds=age)).isoformat()}
    content = {"metadata": meta, "status": {"conditions": [condition | {"message": message}], **status}}
    return msgspec.json.decode(msgspec.json.encode(content), type=Pod)


def waiting(reason: str, message: str = "", **status: Any) -> dict[str, Any]:
    container = {"name": "main", "restartCount": 1, "state": {"waiting": {"reason": reason, "message": message}}}
    return {"containerStatuses": [container | status]}


def judge(*pods: Pod, served: bool = False, logs: dict[str, str] | None = None, rs: ReplicaSet | None = None) -> Any:
    return diagnose(pods, rs, deadline=DEADLINE, served=served, logs=logs or {}, now=NOW)


@pytest.mark.parametrize(
    ("status", "reason", "message"),
    [
        (
            waiting("ImagePullBackOff", 'Back-off pulling image "nosuch:v1"'),
            "ImagePullBackOff",
            'container main of pod web-1-x can\'t start, ImagePullBackOff: Back-off pulling image "nosuch:v1"',
        ),
        (
            waiting("CreateContainerConfigError", 'secret "db" not found'),
            "CreateContainerConfigError",
            'container main of pod web-1-x can\'t start, CreateContainerConfigError: secret "db" not found',
        ),
        (
            waiting("CrashLoopBackOff", lastState={"terminated": {"exitCode": 137, "message": "x\nout of memory\n"}}),
            "CrashLoopBackOff",
            "container main of pod web-1-x crashed with exit code 137 and was restarted once;"
            ' its last words: "out of memory"',
        ),
    ],
)
def test_a_container_that_cannot_live_is_a_verdict_at_once(status: dict[str, Any], reason: str, message: str) -> None:
    found = judge(pod(**status))
    assert (found.reason, found.message, found.log) == (reason, message, None)


def test_a_pull_that_is_tried_again_is_no_verdict() -> None:
    assert not isinstance(judge(pod(**waiting("ErrImagePull"))), Illness)


def test_an_init_container_counts_too() -> None:
    status = {"initContainerStatuses": waiting("CrashLoopBackOff")["containerStatuses"]}
    assert judge(pod(**status)).reason == "CrashLoopBackOff"


def test_the_last_words_of_a_crash_are_asked_for_once() -> None:
    crashed = pod(**waiting("CrashLoopBackOff"))
    wanted = judge(crashed).log
    assert (wanted.pod, wanted.container, wanted.previous) == ("web-1-x", "main", True)
    assert judge(crashed, logs={"web-1-x": ""}).log is None
    assert judge(crashed, logs={"web-1-x": "no database"}).message.endswith('its last words: "no database"')


def test_a_pod_has_until_the_deadline_to_become_ready() -> None:
    assert judge(pod(age=60)) == NOW + DEADLINE - timedelta(seconds=60)
    late = judge(pod(age=601, message="containers with unready status: [main]"))
    assert late.message == "pod web-1-x is not ready after 10 min: containers with unready status: [main]"


def test_a_pod_that_loses_its_readiness_gets_the_deadline_anew() -> None:
    assert judge(pod(age=6000, since=30)) == NOW + DEADLINE - timedelta(seconds=30)


def test_a_canary_that_served_may_not_stay_without_a_ready_pod() -> None:
    assert judge(pod(age=600, since=4), served=True) == NOW + timedelta(seconds=6)
    assert judge(pod(age=600, since=10), served=True).reason == "NoneReady"
    assert judge(pod(age=599, since=10), pod(ready=True), served=True) == NOW + DEADLINE - timedelta(seconds=10)


def test_ready_pods_need_no_look_later() -> None:
    assert judge(pod(ready=True), served=True) is None


def test_pods_that_the_api_server_refuses_are_a_verdict_at_the_deadline() -> None:
    def refused(seconds: int) -> ReplicaSet:
        since = (NOW - timedelta(seconds=seconds)).isoformat()
        condition = {
            "type": "ReplicaFailure",
            "status": "True",
            "message": "exceeded quota",
            "lastTransitionTime": since,
        }
        content = {"metadata": {"name": "web-1"}, "status": {"conditions": [condition]}}
        return msgspec.json.decode(msgspec.json.encode(content), type=ReplicaSet)

    assert judge(rs=refused(10)) == NOW + DEADLINE - timedelta(seconds=10)
    assert judge(rs=refused(600)).message == "the canary's pods can't be created: exceeded quota"
