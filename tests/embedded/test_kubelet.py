"""The kubelet's judgement, without a cluster: images, back-off, status, logs."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from davylamp.embedded.kubelet import logs, model
from davylamp.embedded.kubelet.logs import ContainerLog, Options
from davylamp.embedded.kubelet.model import ContainerView, Pod, Running, Terminated, Waiting

NOW, LATER = "2030-01-01T00:00:00Z", "2030-01-01T00:01:00Z"


def pod(**spec: Any) -> Pod:
    return msgspec.convert(
        {
            "metadata": {"name": "web-1", "namespace": "shop", "uid": "u1"},
            "spec": {"nodeName": "node-1", "containers": [{"name": "web", "image": "hellok8s:v2"}], **spec},
        },
        type=Pod,
    )


def status(views: dict[str, ContainerView], of: Pod | None = None, now: str = NOW) -> dict[str, Any]:
    return model.status(of or pod(), views, address="10.244.1.1", node_address="10.244.0.10", started=NOW, now=now)


def condition(status: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(c for c in status["conditions"] if c["type"] == kind)


@pytest.mark.parametrize(
    ("image", "behaviour", "tag"),
    [
        ("hellok8s:v1", "hellok8s", "v1"),
        ("registry.example:5000/team/hellok8s:v2", "hellok8s", "v2"),
        ("hellok8s", "hellok8s", "latest"),
        ("hellok8s:v3@sha256:abc", "hellok8s", "v3"),
        ("pause", "pause", "latest"),
        ("registry.k8s.io/pause:3.10", "pause", "3.10"),
        ("helloworld:v1", "absent", "v1"),
    ],
)
def test_an_image_is_known_by_the_last_part_of_its_name(image: str, behaviour: str, tag: str) -> None:
    assert (model.behaviour(image), model.tag(image)) == (behaviour, tag)


def test_the_first_restart_is_at_once_and_then_the_pause_doubles_up_to_the_cap() -> None:
    assert [model.restart_delay(n, 10.0) for n in range(8)] == [0, 1, 2, 4, 8, 10, 10, 10]
    assert model.restart_delay(10_000, 10.0) == 10.0


def test_a_probe_without_a_period_is_made_every_second() -> None:
    assert model.probe_period(model.Probe()) == 1.0  # the API server writes its default, 10
    assert model.probe_period(model.Probe(period_seconds=3)) == 3.0


@pytest.mark.parametrize(("port", "number"), [(8080, 8080), ("8080", 8080), ("http", 80), ("https", None)])
def test_a_probes_port_is_a_number_or_a_name_of_the_containers(port: int | str, number: int | None) -> None:
    container = model.Container(name="web", ports=(model.Port(container_port=80, name="http"),))
    assert model.probe_port(container, port) == number


def test_variables_come_from_the_pod_and_its_own_win_over_ours() -> None:
    env = [
        {"name": "VERSION", "value": "mine"},
        {"name": "ME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
    ]
    it = pod(containers=[{"name": "web", "image": "hellok8s:v2", "env": env}])
    found = model.environment(it, it.spec.containers[0], "10.244.1.1")
    assert found == {
        "POD_NAME": "web-1",
        "POD_NAMESPACE": "shop",
        "POD_IP": "10.244.1.1",
        "VERSION": "mine",
        "ME": "web-1",
        "IP": "10.244.1.1",
    }


@pytest.mark.parametrize(
    ("image", "expected"),
    [("hellok8s:v3-crash", {"CRASH": "1"}), ("hellok8s:v3", {}), ("hellok8s:crash", {"CRASH": "1"})],
)
def test_the_end_of_a_tag_can_ask_for_a_fault(image: str, expected: dict[str, str]) -> None:
    assert model.faults(image) == expected


def test_a_fault_of_the_tag_gives_way_to_the_pods_own_variables() -> None:
    image = {"name": "web", "image": "hellok8s:v3-errors", "env": [{"name": "ERROR_RATE", "value": "0.5"}]}
    it = pod(containers=[image])
    assert model.environment(it, it.spec.containers[0], "10.244.1.1")["ERROR_RATE"] == "0.5"


RUNS = ContainerView(state=Running(started_at=NOW), ready=True)
ENDED_WELL = ContainerView(state=Terminated(exit_code=0))
ENDED_BADLY = ContainerView(state=Terminated(exit_code=1))
NOT_YET = ContainerView(state=Waiting(reason="ErrImagePull"))
LOOPING = ContainerView(state=Waiting(reason="CrashLoopBackOff"), last=Terminated(exit_code=1))


@pytest.mark.parametrize(
    ("views", "policy", "phase"),
    [
        ([RUNS], "Always", "Running"),
        ([RUNS, NOT_YET], "Always", "Pending"),
        ([LOOPING], "Always", "Running"),
        ([ENDED_BADLY], "Always", "Running"),
        ([ENDED_WELL], "OnFailure", "Succeeded"),
        ([ENDED_WELL, ENDED_BADLY], "Never", "Failed"),
        ([ENDED_WELL, ENDED_BADLY], "OnFailure", "Running"),
    ],
)
def test_the_phase_follows_from_all_containers(views: list[ContainerView], policy: str, phase: str) -> None:
    assert model.phase({str(i): view for i, view in enumerate(views)}, policy) == phase


def test_a_running_and_ready_container_makes_the_pod_ready() -> None:
    it = status({"web": RUNS})
    assert (it["phase"], condition(it, "Ready")["status"]) == ("Running", "True")
    assert (it["podIP"], it["hostIP"]) == ("10.244.1.1", "10.244.0.10")
    assert it["containerStatuses"][0]["state"] == {"running": {"startedAt": NOW}}


def test_a_crash_loop_shows_its_reason_its_last_end_and_who_is_unready() -> None:
    end = Terminated(exit_code=3, reason="Error", message="FATAL", started_at=NOW, finished_at=NOW)
    waiting = Waiting(reason="CrashLoopBackOff", message="back-off 2s")
    it = status({"web": ContainerView(state=waiting, last=end, restarts=2)})
    container = it["containerStatuses"][0]
    assert container["state"] == {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 2s"}}
    assert container["lastState"]["terminated"]["exitCode"] == 3
    assert container["restartCount"] == 2
    assert condition(it, "Ready")["message"] == "containers with unready status: [web]"


def test_a_condition_keeps_its_time_while_its_status_does() -> None:
    conditions = [{"type": t, "status": "True", "lastTransitionTime": NOW} for t in ("Ready", "ContainersReady")]
    before = msgspec.convert(
        {"metadata": {"name": "web-1", "uid": "u1"}, "status": {"conditions": conditions}}, type=Pod
    )
    same = status({"web": RUNS}, before, LATER)
    fallen = status({"web": msgspec.structs.replace(RUNS, ready=False)}, before, LATER)
    assert condition(same, "Ready")["lastTransitionTime"] == NOW
    assert condition(fallen, "Ready")["lastTransitionTime"] == LATER


def test_a_readiness_gate_keeps_the_pod_unready_until_its_condition_is_true() -> None:
    gated = pod(readinessGates=[{"conditionType": "example.com/go"}])
    assert condition(status({"web": RUNS}, gated), "Ready")["status"] == "False"
    assert condition(status({"web": RUNS}, gated), "ContainersReady")["status"] == "True"


STORED = b"".join(b"2030-01-01T00:00:0%d.000000000Z line %d\n" % (i, i) for i in range(5))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, b"line 0\nline 1\nline 2\nline 3\nline 4\n"),
        ({"tailLines": "2"}, b"line 3\nline 4\n"),
        ({"tailLines": "0"}, b""),
        ({"sinceTime": "2030-01-01T00:00:03Z"}, b"line 3\nline 4\n"),
        ({"sinceTime": "2030-01-01T01:00:03+01:00", "tailLines": "1"}, b"line 4\n"),
        ({"sinceSeconds": "1"}, b"line 3\nline 4\n"),
        ({"tailLines": "1", "timestamps": "true"}, b"2030-01-01T00:00:04.000000000Z line 4\n"),
    ],
)
def test_log_options_choose_lines(query: dict[str, str], expected: bytes) -> None:
    now = datetime(2030, 1, 1, 0, 0, 4, tzinfo=UTC)
    assert logs.select(STORED, logs.options_of(query, now)) == expected


def test_following_a_log_shows_old_lines_then_new_ones_and_ends_with_the_container(tmp_path: Path) -> None:
    async def main() -> list[bytes]:
        log = ContainerLog(tmp_path / "c" / "0.log")
        log.data_received(b"first\nsec")
        seen: list[bytes] = []
        async for chunk in log.read(Options(follow=True)):
            seen.append(chunk)
            if len(seen) == 1:
                log.data_received(b"ond\n")
            else:
                log.connection_lost(None)
        return seen

    assert asyncio.run(asyncio.wait_for(main(), 5)) == [b"first\n", b"second\n"]


def test_a_termination_message_is_the_end_of_the_log(tmp_path: Path) -> None:
    log = ContainerLog(tmp_path / "0.log")
    log.data_received(b"".join(b"%d\n" % i for i in range(100)) + b"unfinished")
    log.connection_lost(None)
    assert log.tail().splitlines()[0] == "21"
    assert log.tail().splitlines()[-1] == "unfinished"
