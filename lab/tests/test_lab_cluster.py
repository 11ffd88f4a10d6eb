"""The real thing: a control plane, pods that are processes, Traefik in front, and nothing left at the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from davylamp.embedded.wheels import program

from davylab import Lab, LabError, Load, User, wait

pytestmark = pytest.mark.cluster

HOST = "shop.example"
READY = {"httpGet": {"path": "/healthz", "port": "http"}}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(traefik=True, audit=True, restart_cap=1.0, users=[User("viewer", "jane", ("readers",))]) as lab:
        yield lab


@pytest.fixture(scope="module")
def web(lab: Lab) -> str:
    """Deployment, Service and Ingress `web`, two pods of hellok8s:v1, ready."""
    apply(lab, deployment("web", "hellok8s:v1", 2), service("web"), ingress("web"))
    lab.wait(lambda: available(lab, "web") == 2, 60, "two available pods of web")
    return "web"


def apply(lab: Lab, *objects: dict[str, Any]) -> None:
    lab.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(objects))


def get(lab: Lab, *args: str) -> Any:
    return json.loads(lab.kubectl("get", *args, "-o", "json"))


def available(lab: Lab, name: str) -> int:
    return int(get(lab, "deployment", name)["status"].get("availableReplicas", 0))


def container_status(lab: Lab, pod: str) -> dict[str, Any]:
    statuses = get(lab, "pod", pod)["status"].get("containerStatuses") or [{}]
    found: dict[str, Any] = statuses[0]
    return found


def deployment(name: str, image: str, replicas: int, **env: str) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [container(image, **env)]},
            },
        },
    }


def container(image: str, **env: str) -> dict[str, Any]:
    return {
        "name": "app",
        "image": image,
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": READY,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "env": [{"name": name, "value": value} for name, value in env.items()],
    }


def pod(name: str, image: str, **env: str) -> dict[str, Any]:
    spec = {"containers": [container(image, **env)]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def service(name: str) -> dict[str, Any]:
    spec = {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": "http"}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def ingress(name: str, **annotations: str) -> dict[str, Any]:
    backend = {"service": {"name": name, "port": {"number": 80}}}
    path = {"path": "/", "pathType": "Prefix", "backend": backend}
    prefix = "nginx.ingress.kubernetes.io"
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {
            "name": name,
            "annotations": {f"{prefix}/{k.replace('_', '-')}": v for k, v in annotations.items()},
        },
        "spec": {"ingressClassName": "nginx", "rules": [{"host": HOST, "http": {"paths": [path]}}]},
    }


def ask(lab: Lab) -> str | None:
    """The version that Traefik's answer names, from the host's side of the relay."""
    try:
        request = urllib.request.Request(lab.traefik_url, headers={"Host": HOST})
        with urllib.request.urlopen(request, timeout=5) as answer:
            version: str | None = answer.headers["X-Version"]
            return version
    except urllib.error.HTTPError:
        return None


def process_exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def processes_of(lab: Lab) -> list[int]:
    """Pids of the lab's pods: those with the lab's own compiled hellok8s in their command line."""
    marker = str(lab.state / "hellok8s.pyc").encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if marker in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended meanwhile
    return found


def test_an_ingress_serves_a_deployments_pods_through_traefik(lab: Lab, web: str) -> None:
    assert lab.wait(lambda: ask(lab), 60, "an answer through Traefik") == "v1"
    addresses = {p["status"]["podIP"] for p in get(lab, "pods", "-l", "app=web")["items"]}
    assert len(addresses) == 2
    assert all(address.startswith("10.244.") for address in addresses)


def test_kubectl_logs_shows_and_follows_what_pods_write(lab: Lab, web: str) -> None:
    assert "hellok8s v1 listening" in lab.kubectl("logs", "deployment/web")
    command = [str(program("kubectl")), "--kubeconfig", str(lab.kubeconfig), "logs", "-f", "-l", "app=web", "--tail=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as following:
        try:
            # A log that is followed from its end shows nothing until there is something new.
            ticking = lab.spawn([sys.executable, "-c", KNOCK, lab.inside_traefik_url, HOST])
            assert following.stdout
            assert "GET / 200" in following.stdout.readline()
            ticking.kill()
        finally:
            following.kill()


KNOCK = """
import sys, time, urllib.request
while True:
    urllib.request.urlopen(urllib.request.Request(sys.argv[1], headers={"Host": sys.argv[2]})).read()
    time.sleep(0.05)
"""


def test_a_crash_loop_is_seen_with_exit_code_message_and_previous_log(lab: Lab) -> None:
    apply(lab, pod("crash", "hellok8s:v2", CRASH="3"))

    def looping() -> dict[str, Any] | None:
        status = container_status(lab, "crash")
        reason = status.get("state", {}).get("waiting", {}).get("reason")
        return status if reason == "CrashLoopBackOff" and status["restartCount"] >= 2 else None

    status = lab.wait(looping, 60, "CrashLoopBackOff")
    assert status
    assert status["lastState"]["terminated"]["exitCode"] == 3
    assert "FATAL" in status["lastState"]["terminated"]["message"]
    assert "FATAL" in lab.kubectl("logs", "crash", "--previous")
    lab.kubectl("delete", "pod", "crash")


def test_an_unknown_image_ends_in_image_pull_back_off(lab: Lab) -> None:
    apply(lab, pod("typo", "hellok9s:v2"))

    def waiting() -> dict[str, Any]:
        found: dict[str, Any] = container_status(lab, "typo").get("state", {}).get("waiting", {})
        return found

    lab.wait(lambda: waiting().get("reason") == "ImagePullBackOff", 60, "ImagePullBackOff")
    assert 'Back-off pulling image "hellok9s:v2"' in waiting()["message"]
    assert get(lab, "pod", "typo")["status"]["phase"] == "Pending"
    lab.kubectl("delete", "pod", "typo")


def test_a_pod_that_fails_its_probe_is_running_and_not_ready(lab: Lab) -> None:
    apply(lab, pod("unready", "hellok8s:v1", UNREADY="1"))
    lab.wait(lambda: "running" in container_status(lab, "unready").get("state", {}), 60, "a running container")
    assert container_status(lab, "unready")["ready"] is False
    lab.kubectl("delete", "pod", "unready", "--grace-period=0", "--force")


def test_a_canary_weight_is_seen_in_the_traffic_and_nothing_is_lost(lab: Lab, web: str) -> None:
    apply(lab, deployment("web-canary", "hellok8s:v2", 1), service("web-canary"))
    lab.wait(lambda: available(lab, "web-canary") == 1, 60, "the canary's pod")
    lab.wait(lambda: ask(lab) == "v1", 60, "an answer through Traefik")
    with Load(lab, host=HOST, rps=200) as load:
        lab.wait(lambda: load.snapshot().answered > 50, 60, "traffic")
        apply(lab, ingress("web-canary", canary="true", canary_weight="30"))
        lab.wait(lambda: load.snapshot().by_version["v2"] > 0, 60, "the canary's first answer")
        before = load.snapshot()
        lab.wait(lambda: load.snapshot().answered - before.answered > 400, 60, "400 requests")
        share = load.snapshot().minus(before).share("v2")
        # Away with the route first, then with the pod.
        lab.kubectl("delete", "ingress", "web-canary")
        mark = load.snapshot()

        def quiet() -> bool:
            nonlocal mark
            now = load.snapshot()
            since, mark = (now.minus(mark), now) if now.answered > mark.answered + 50 else (None, mark)
            return since is not None and since.by_version["v2"] == 0

        lab.wait(quiet, 60, "an end of the canary's answers")
        lab.kubectl("delete", "deployment,service", "web-canary", "--wait=false")
    assert 0.27 < share < 0.33
    assert (load.summary.lost, load.summary.failed) == (0, 0)
    assert load.summary.by_version.keys() == {"v1", "v2"}


def test_pods_that_go_away_under_traffic_lose_nothing(lab: Lab, web: str) -> None:
    lab.wait(lambda: ask(lab) == "v1", 60, "an answer through Traefik")
    with Load(lab, host=HOST, rps=200) as load:
        lab.wait(lambda: load.snapshot().answered > 50, 60, "traffic")
        lab.kubectl("rollout", "restart", "deployment/web")
        lab.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
        lab.wait(lambda: len(get(lab, "pods", "-l", "app=web")["items"]) == 2, 60, "the end of the old pods")
    assert load.summary.sent > 200
    assert (load.summary.lost, load.summary.failed) == (0, 0)


def test_a_deleted_pod_takes_its_process_along(lab: Lab) -> None:
    before = set(processes_of(lab))
    apply(lab, pod("short", "hellok8s:v1", DRAIN_SECONDS="0"))
    lab.wait(lambda: container_status(lab, "short").get("ready"), 60, "the pod")
    (pid,) = set(processes_of(lab)) - before
    lab.kubectl("delete", "pod", "short")
    lab.wait(lambda: not process_exists(pid), 60, "the end of the pod's process")


def test_many_pods_without_a_process_are_ready_soon(lab: Lab) -> None:
    lab.kubectl("create", "deployment", "many", "--image=registry.k8s.io/pause:3.10", "--replicas=300")
    lab.wait(lambda: available(lab, "many") == 300, 180, "300 available pods")
    lab.kubectl("delete", "deployment", "many")


def test_other_users_have_their_own_kubeconfigs_and_rights(lab: Lab) -> None:
    for user, name in (("viewer", "jane"), ("davylamp", "system:serviceaccount:davylamp-system:davylamp")):
        config = str(lab.kubeconfig_of(user))
        assert name in kubectl_with(config, "auth", "whoami")
        assert kubectl_with(config, "auth", "can-i", "list", "pods").strip() == "no"
    assert lab.kubectl("auth", "can-i", "list", "pods").strip() == "yes"
    with pytest.raises(LabError, match='no user "nobody"'):
        lab.kubeconfig_of("nobody")


def kubectl_with(kubeconfig: str, *args: str) -> str:
    return subprocess.run(
        [str(program("kubectl")), "--kubeconfig", kubeconfig, *args], capture_output=True, text=True, check=False
    ).stdout


def test_service_account_tokens_are_issued_and_accepted(lab: Lab) -> None:
    token = lab.kubectl("create", "token", "default").strip()
    done = kubectl_with(str(lab.kubeconfig_of("viewer")), "--token", token, "auth", "whoami")
    assert "system:serviceaccount:default:default" in done
    config = lab.kubeconfig_of_service_account("default", "default")
    assert "system:serviceaccount:default:default" in kubectl_with(str(config), "auth", "whoami")


def test_the_audit_log_has_a_line_for_each_request(lab: Lab) -> None:
    lab.kubectl("create", "configmap", "audited")
    assert lab.info.audit_log
    path = Path(lab.info.audit_log)

    def line() -> dict[str, Any] | None:
        events = [json.loads(line) for line in path.read_text().splitlines() if '"audited"' in line]
        created = [event for event in events if event["verb"] == "create"]
        return created[0] if created else None

    event = lab.wait(line, 60, "the request in the audit log")
    assert event
    assert (event["user"]["username"], event["stage"]) == ("admin", "ResponseComplete")


def test_a_killed_component_comes_back_and_pods_keep_their_addresses(lab: Lab, web: str) -> None:
    pods = {p["metadata"]["name"]: p["status"]["podIP"] for p in get(lab, "pods", "-l", "app=web")["items"]}
    for name in ("kube-apiserver", "kubelet"):
        old = lab.pids()[name]
        os.kill(old, signal.SIGKILL)
        lab.wait(lambda name=name, old=old: lab.pids()[name] != old, 60, f"a new {name}")  # type: ignore[misc]
    lab.wait(lambda: processes_of(lab), 60, "the pods' processes")
    lab.wait(lambda: available(lab, "web") == 2, 60, "web to be available again")
    items = get(lab, "pods", "-l", "app=web")["items"]
    assert {p["metadata"]["name"]: p["status"]["podIP"] for p in items} == pods


def test_stopping_leaves_no_process_and_no_folder() -> None:
    with Lab() as lab:
        apply(lab, deployment("web", "hellok8s:v1", 1))
        lab.wait(lambda: available(lab, "web") == 1, 60, "a pod")
        assert Lab.attach(lab.state).info == lab.info
        pids = [lab.info.pid, *lab.info.pids.values(), *processes_of(lab)]
        assert all(map(process_exists, pids))
    assert not any(map(process_exists, pids))
    assert not lab.state.exists()


def test_killing_the_supervisor_kills_everything() -> None:
    lab = Lab()
    apply(lab, deployment("web", "hellok8s:v1", 1))
    lab.wait(lambda: available(lab, "web") == 1, 60, "a pod")
    pids = [*lab.info.pids.values(), *processes_of(lab)]
    os.kill(lab.info.pid, signal.SIGKILL)
    wait(lambda: not any(map(process_exists, pids)), 60, "the end of all processes")
    with pytest.raises(LabError, match="is dead"):
        Lab.attach(lab.state)
    lab.stop()


def test_a_lab_ends_with_the_process_that_started_it_and_leaves_nothing() -> None:
    code = "import sys; from davylab import Lab; print(Lab().state, flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout
        state = Path(owner.stdout.readline().strip())
        pids = list(Lab.attach(state).info.pids.values())
        owner.kill()
    wait(lambda: not any(map(process_exists, pids)), 60, "the end of all processes")
    wait(lambda: not state.exists(), 60, "the end of the state folder")
