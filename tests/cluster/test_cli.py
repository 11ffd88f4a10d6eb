"""`davy` on the real control plane, as a person and a CI job use it."""

from __future__ import annotations

import json
import os
import re
import subprocess

import pytest

from davylamp.cli import exits
from davylamp.embedded.wheels import program
from tests.cluster.shop import DAVY, Json, Shop, policy_manifest

pytestmark = pytest.mark.usefixtures("controller")
STEPS: list[Json] = [{"weight": 20}, {"weight": 50, "approve": True}, {"weight": 100}]


def follow(shop: Shop, *args: str) -> subprocess.Popen[str]:
    """`davy` in the background, its output a pipe."""
    command = [str(DAVY), *args, "-n", shop.namespace, "--kubeconfig", str(shop.lab.kubeconfig)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def state(shop: Shop) -> str:
    return str(json.loads(shop.davy("status", "web", "-o", "json").stdout)["state"])


def test_a_ci_job_changes_the_image_and_waits_for_the_end(shop: Shop) -> None:
    shop.open()
    shop.policy({"weight": 50}, {"weight": 100})
    shop.set_image("hellok8s:v2")
    done = shop.davy("status", "web", "--wait", "--timeout", "4m")
    assert re.search(
        r"release web-\w+-1  Completed just now: all pods run hellok8s:v2\n  stable +\S+ +4/4", done.stdout
    )
    assert "Traceback" not in done.stderr
    assert (
        shop.davy("history", "web", "-o", "name").stdout
        == f"release.davylamp.dev/{shop.releases[0]['metadata']['name']}\n"
    )


def test_a_person_steers_a_release_from_step_to_step(shop: Shop) -> None:
    shop.open()
    shop.policy(*STEPS)
    shop.set_image("hellok8s:v2")
    shop.wait(lambda: state(shop) == "AwaitingApproval", "approval")
    assert shop.davy("approve", "web", "--step", "1", check=False).returncode == exits.REFUSED
    assert shop.davy("pause", "web", "--reason", "lunch", "--wait", "--timeout", "4m").returncode == exits.OK
    assert re.search(r"Paused in step 2 of 3 by .*: lunch", shop.davy("status", "web").stdout)
    shop.davy("approve", "web", "--reason", "looks good")
    assert state(shop) == "Paused"
    watch = follow(shop, "watch", "web", "--timeout", "4m")
    assert shop.davy("resume", "web", "--wait", "--timeout", "4m").returncode == exits.OK
    out, err = watch.communicate(timeout=240)
    assert (watch.returncode, err) == (exits.OK, "")
    assert "Completed" in out.splitlines()[-1]
    assert shop.davy("pause", "web", check=False).returncode == exits.REFUSED


def test_a_watch_sees_a_broken_version_come_and_go_and_retry_tries_it_again(shop: Shop) -> None:
    shop.open()
    shop.policy(*STEPS)
    watch = follow(shop, "watch", "web", "--timeout", "4m")
    assert watch.stderr is not None
    assert "waiting for a release to begin" in watch.stderr.readline()
    shop.kubectl("set", "env", "deployment/web", "CRASH=1")
    out, _ = watch.communicate(timeout=240)
    assert watch.returncode == exits.ROLLED_BACK
    assert "RollingBack" in out
    assert re.search(r"Held  RolledBack just now: container hellok8s of pod \S+ crashed with exit code 1", out)
    assert shop.davy("status", "web", "--wait", check=False).returncode == exits.ROLLED_BACK
    again = shop.davy("retry", "web", "--wait", "--timeout", "4m", check=False)
    assert again.returncode == exits.ROLLED_BACK
    assert [r["spec"].get("attempt", 1) for r in shop.releases] == [1, 2]


def test_abort_and_wait_returns_when_nothing_of_the_release_is_left(shop: Shop) -> None:
    shop.open()
    shop.policy(*STEPS)
    shop.set_image("hellok8s:v2")
    shop.wait_step("hellok8s:v2", 1)
    assert shop.davy("abort", "web", "--reason", "no", "--wait", "--timeout", "4m").returncode == exits.OK
    assert shop.leftovers() == []
    assert shop.release("hellok8s:v2")["spec"]["abort"]["reason"] == "no"


def test_a_watch_lives_through_a_restart_of_the_api_server(shop: Shop) -> None:
    shop.open()
    shop.policy(*STEPS)
    shop.set_image("hellok8s:v2")
    shop.wait(lambda: state(shop) == "AwaitingApproval", "approval")
    watch = follow(shop, "watch", "web", "--timeout", "4m")
    assert watch.stdout is not None
    assert "AwaitingApproval" in watch.stdout.readline()
    before = shop.lab.pids()["kube-apiserver"]
    os.kill(before, 9)
    shop.wait(lambda: shop.lab.pids()["kube-apiserver"] != before, "another API server")
    shop.wait(lambda: shop.davy("promote", "web", check=False).returncode == exits.OK, "the API server again")
    out, err = watch.communicate(timeout=240)
    assert watch.returncode == exits.OK, out + err
    assert err.count("can't be watched") <= 1


def test_a_policy_that_can_not_be_used_is_told_of_before_and_after_it_is_applied(shop: Shop) -> None:
    shop.open()
    spec: Json = {
        "target": {"name": "web"},
        "traffic": {"service": "web", "routes": [{"ingress": {"name": "wbe"}}]},
        "steps": [{"weight": 10}, {"weight": 100}],
    }
    wrong = f'spec.traffic.routes[0].ingress.name: no Ingress "wbe" in {shop.namespace}'
    manifest = json.dumps(policy_manifest("web", spec))
    command = [str(DAVY), "validate", "-f", "-", "-n", shop.namespace, "--kubeconfig", str(shop.lab.kubeconfig)]
    checked = subprocess.run(command, input=manifest, capture_output=True, text=True, check=False)
    assert checked.returncode == exits.BAD_INPUT
    assert wrong in checked.stdout
    shop.apply(policy_manifest("web", spec))
    status = shop.davy("status", "web", "--wait", check=False)
    assert status.returncode == exits.BAD_INPUT
    assert wrong in status.stdout


def test_the_same_works_as_a_plugin_of_kubectl(shop: Shop) -> None:
    shop.open()
    shop.policy(*STEPS)
    path = f"{DAVY.parent}{os.pathsep}{os.environ['PATH']}"
    env = os.environ | {"PATH": path, "KUBECONFIG": str(shop.lab.kubeconfig)}
    command = [str(program("kubectl")), "davy", "status", "web", "-n", shop.namespace]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.stdout.startswith(f"{shop.namespace}/web  no release yet; all pods run hellok8s:v1\n")


def test_a_fleet_is_a_table(shop: Shop) -> None:
    shop.open()
    shop.policy(*STEPS)
    lines = shop.davy("status").stdout.splitlines()
    assert lines[0].split() == ["NAME", "IMAGE", "PHASE", "STEP", "WEIGHT", "MESSAGE"]
    assert lines[1].split()[:3] == ["web", "hellok8s:v1", "Stable"]
    assert len(lines) == 2


def test_who_may_only_look_can_look_and_is_told_that_there_is_no_more(shop: Shop) -> None:
    shop.open()
    shop.policy(*STEPS)
    shop.set_image("hellok8s:v2")
    shop.wait(lambda: state(shop) == "AwaitingApproval", "approval")
    shop.kubectl("create", "serviceaccount", "ann")
    shop.kubectl("create", "rolebinding", "ann", "--clusterrole=view", f"--serviceaccount={shop.namespace}:ann")
    ann = str(shop.lab.kubeconfig_of_service_account(shop.namespace, "ann"))

    def davy(*args: str) -> subprocess.CompletedProcess[str]:
        command = [str(DAVY), *args, "-n", shop.namespace, "--kubeconfig", ann]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    shop.wait(lambda: davy("status").returncode == exits.OK, "the rights")
    assert "step 2 of 3 waits for approval" in davy("status", "web").stdout
    assert davy("watch", "web", "--timeout", "3s").stdout.count("AwaitingApproval") == 1
    refused = davy("approve", "web")
    assert refused.returncode == exits.FAILED
    assert "(the cluster's RBAC has to allow it)" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
