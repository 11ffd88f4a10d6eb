"""`davy status`, `davy history`: what is printed, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import yaml

from davylamp.cli import exits
from davylamp.core.actions import Ref
from davylamp.kube.errors import ApiError
from tests.cli.conftest import Davy, Serve
from tests.core.model import Cluster
from tests.view import situations
from tests.view.situations import in_step, started, text


@pytest.mark.parametrize(
    "situation",
    [situations.done, situations.awaiting, situations.held, situations.invalid, situations.waiting_for_pods],
)
def test_the_command_line_sees_what_the_controller_sees(
    davy: Davy, serve: Serve, situation: Callable[[], Cluster]
) -> None:
    cluster = situation()
    serve(cluster)
    result = davy("status", "web")
    assert (result.code, result.err) == (exits.OK, "")
    assert result.lines == text(cluster)


def test_all_workloads_are_a_table(davy: Davy, serve: Serve) -> None:
    serve(in_step(1))
    assert davy("status").lines == [
        "NAME  IMAGE                      PHASE        STEP  WEIGHT  MESSAGE",
        "web   hellok8s:v1 → hellok8s:v2  Progressing  1/3   10 %    step 1 holds until 12:10:05, then step 2, 50 %",
    ]
    assert davy("status", "-A", "-o", "wide").lines == [
        "NAMESPACE  NAME  IMAGE                      PHASE        STEP  WEIGHT  PODS       RELEASE           POLICY  "
        "SINCE  MESSAGE",
        "shop       web   hellok8s:v1 → hellok8s:v2  Progressing  1/3   10 %    4/4 + 4/4  web-bc87ce785f-1  web     "
        "5 s    step 1 holds until 12:10:05, then step 2, 50 %",
    ]


@pytest.mark.parametrize(
    ("situation", "row"),
    [
        (situations.done, "hellok8s:v2 Stable - - Completed just now: all pods run hellok8s:v2"),
        (situations.awaiting, "hellok8s:v1 → hellok8s:v2 AwaitingApproval 2/3 50 % step 2 waits for approval"),
        (situations.paused, "hellok8s:v1 → hellok8s:v2 Paused 1/3 10 % Paused in step 1 of 3 by ann: lunch"),
        (
            situations.invalid,
            "hellok8s:v1 InvalidPolicy - - policy web: spec.steps[1].weight: 10 comes after 50; weights must rise "
            "(and 1 more)",
        ),
        (
            situations.restarted,
            "hellok8s:v1 (another template) Pending 1/3 0 → 10 % step 1: setting the weight to 10 %",
        ),
        (situations.superseded, "hellok8s:v1 → hellok8s:v2 RollingBack 1/3 10 → 0 % taking the traffic away"),
    ],
)
def test_a_row_says_the_most_important_thing(
    davy: Davy, serve: Serve, situation: Callable[[], Cluster], row: str
) -> None:
    serve(situation())
    assert " ".join(davy("status").lines[1].split()).startswith(f"web {row}")


def test_a_table_takes_one_request_for_each_kind_and_of_the_pods_only_those_of_canaries(
    davy: Davy, serve: Serve
) -> None:
    server = serve(in_step(1))
    davy("status")
    assert sorted(ref.kind for _, ref in server.requests) == [
        "Deployment",
        "EndpointSlice",
        "Ingress",
        "IngressClass",
        "Pod",
        "Release",
        "ReleasePolicy",
        "ReplicaSet",
        "Service",
    ]


def test_nothing_is_said_to_be_nothing(davy: Davy, serve: Serve) -> None:
    serve(situations.without_policy())
    result = davy("status")
    assert (result.code, result.out, result.err) == (exits.OK, "", "No ReleasePolicies in namespace shop.\n")
    assert davy("status", "-A").err == "No ReleasePolicies in any namespace.\n"
    assert davy("history").err == "No releases in shop yet.\n"
    assert davy("history", "web").err == "No releases of shop/web yet.\n"


def test_json_and_yaml_are_the_same(davy: Davy, serve: Serve) -> None:
    serve(in_step(1))
    content = json.loads(davy("status", "web", "-o", "json").out)
    assert content == yaml.safe_load(davy("status", "web", "-o", "yaml").out)
    assert content["weight"] == {
        "asked": 10,
        "inEffect": 10.0,
        "how": "settled for 5 s, not measured",
        "since": "2026-11-23T12:00:05Z",
        "askedAt": "2026-11-23T12:00:00Z",
    }
    assert [step["state"] for step in content["steps"]] == ["now", "ahead", "ahead"]
    assert len(content["stable"]["pods"]) == 4
    assert json.loads(davy("status", "-o", "json").out)[0]["name"] == "web"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--wait"], "--wait needs the NAME of one workload"),
        (["web", "-A"], "a NAME is looked for in one namespace: leave --all-namespaces out"),
        (["-A", "-n", "shop"], "--namespace and --all-namespaces exclude each other"),
        (["web", "--timeout", "1s"], "--timeout is for --wait"),
    ],
)
def test_options_that_contradict_each_other_are_bad_input(davy: Davy, serve: Serve, args: list[str], said: str) -> None:
    serve(started())
    result = davy("status", *args)
    assert (result.code, result.err) == (exits.BAD_INPUT, f"davy: {said}\n")


# --- with --wait ---

ENDS: list[tuple[Callable[[], Cluster], int]] = [
    (lambda: started(20, 100), exits.OK),
    (lambda: in_step(1, steps=[{"weight": 10}, {"weight": 100}]), exits.OK),
    (situations.done, exits.OK),
    (situations.crashing, exits.ROLLED_BACK),
    (situations.held, exits.ROLLED_BACK),
    (situations.reverted, exits.ROLLED_BACK),
    (situations.superseded, exits.SUPERSEDED),
    (situations.withdrawn, exits.WITHDRAWN),
    (situations.resumed_by_hand, exits.OVERRIDDEN),
    (situations.invalid, exits.BAD_INPUT),
    (situations.without_policy, exits.NOT_FOUND),
    (situations.policy_lost, exits.NOT_FOUND),
    (situations.paused, exits.TIMED_OUT),
    (situations.awaiting, exits.TIMED_OUT),
]


@pytest.mark.parametrize(("situation", "code"), ENDS)
def test_waiting_ends_with_the_exit_code_of_the_end(
    davy: Davy, serve: Serve, situation: Callable[[], Cluster], code: int
) -> None:
    serve(situation()).drives = True
    assert davy("status", "web", "--wait", "--timeout", "300ms" if code == exits.TIMED_OUT else "10s").code == code


def test_waiting_tells_each_change_on_standard_error_and_the_status_on_standard_output(
    davy: Davy, serve: Serve
) -> None:
    serve(started(20, 100)).drives = True
    result = davy("status", "web", "--wait", "--timeout", "10s", "-o", "json")
    assert json.loads(result.out)["state"] == "Stable"
    lines = [" ".join(line.split()) for line in result.err.splitlines()]
    assert lines[0].endswith("shop/web Starting a release of hellok8s:v2 begins; hellok8s:v1 stays stable")
    assert any(
        "step 1/2 weight 20 % pods 4/4 + 4/4 step 1 holds until 12:01:05, then step 2, 100 %" in line for line in lines
    )
    assert lines[-1].endswith("Stable Completed just now: all pods run hellok8s:v2")
    assert len(lines) == len(set(lines))


def test_a_release_that_made_way_for_another_is_told_of_beside_the_other(davy: Davy, serve: Serve) -> None:
    serve(situations.superseded()).drives = True
    result = davy("status", "web", "--wait", "--timeout", "10s")
    assert result.err.splitlines()[-1] == "davy: web: release web-bc87ce785f-1 is Superseded: a newer template came"


# --- history ---


def test_history_has_the_newest_release_first(davy: Davy, serve: Serve) -> None:
    cluster = situations.held()
    cluster.command(retry={"by": "ann"})
    cluster.sick_images.clear()
    cluster.run(lambda: len(cluster.all("Release")) == 2 and cluster.release.get("status", {}).get("step") == 1)
    serve(cluster)
    first, second, third = davy("history", "web").lines
    assert first == "RELEASE           ATTEMPT  IMAGE                      PHASE        STARTED   TOOK        REASON"
    assert second.startswith(
        "web-bc87ce785f-2  2        hellok8s:v1 → hellok8s:v2  Progressing  12:03:00  5 s so far  step 1 of 3: 10 % to"
    )
    assert third.startswith("web-bc87ce785f-1  1        hellok8s:v1 → hellok8s:v2  RolledBack   12:00:00  0 s")
    assert davy("history", "-A").lines[1].startswith("shop       web         web-bc87ce785f-2")
    assert davy("history", "-o", "name").lines == [
        "release.davylamp.dev/web-bc87ce785f-2",
        "release.davylamp.dev/web-bc87ce785f-1",
    ]


def test_history_for_programs_is_the_releases_themselves(davy: Davy, serve: Serve) -> None:
    cluster = in_step(1)
    cluster.edit("Release", cluster.release["metadata"]["name"], lambda obj: obj["metadata"].update(managedFields=[{}]))
    serve(cluster)
    (release,) = json.loads(davy("history", "web", "-o", "json").out)
    assert "managedFields" not in release["metadata"]
    assert (release["kind"], release["spec"]["deployment"]) == ("Release", "web")


# --- a cluster that says no ---


@pytest.mark.parametrize(
    ("kind", "error", "said"),
    [
        ("ReleasePolicy", ApiError(404, "NotFound", "page not found"), "Davylamp is not installed in this cluster"),
        ("Deployment", ApiError(403, "Forbidden", 'User "ann" cannot list'), "(the cluster's RBAC has to allow it)"),
        ("Release", ApiError(0, "Unreachable", "the API server at x can't be reached"), "can't be reached"),
    ],
)
def test_what_the_cluster_refuses_is_one_line(davy: Davy, serve: Serve, kind: str, error: ApiError, said: str) -> None:
    server = serve(in_step(1))

    def refuse(verb: str, ref: Ref) -> None:
        if ref.kind == kind:
            raise ApiError(error.code, error.reason, error.message, verb=verb, ref=ref)

    server.before = refuse
    for command in (["status"], ["status", "web"], ["pause", "web"], ["watch", "web"]):
        result = davy(*command)
        assert result.code == exits.FAILED
        assert said in result.err
        assert result.err.startswith("davy: ")
        assert len(result.err.splitlines()) == 1


def test_ingress_classes_may_be_forbidden(davy: Davy, serve: Serve) -> None:
    server = serve(in_step(1))

    def refuse(verb: str, ref: Ref) -> None:
        if ref.kind == "IngressClass":
            raise ApiError(403, "Forbidden", "no", verb=verb, ref=ref)

    server.before = refuse
    assert davy("status").code == exits.OK
