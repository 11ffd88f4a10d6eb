"""EndpointSlices, and pods that are not well."""

from __future__ import annotations

from typing import Any

from tests.contract.workloads import Json, Workloads, deployment, service

PROBE = {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1}


def hello(tag: str = "v1", replicas: int = 1, **env: str) -> Json:
    """hellok8s, with its faults as variables."""
    container: dict[str, Any] = {
        "ports": [{"name": "web", "containerPort": 8080}],
        "env": [{"name": name, "value": value} for name, value in env.items()],
        "readinessProbe": PROBE,
    }
    return deployment(replicas=replicas, image=f"hellok8s:{tag}", container=container)


def slices(here: Workloads) -> list[Json]:
    return here.all("endpointslices", "kubernetes.io/service-name=web")


def test_a_service_without_pods_has_one_empty_slice(here: Workloads) -> None:
    here.create(service())
    here.until(lambda: len(slices(here)) == 1, "a slice")
    (only,) = slices(here)
    assert not only.get("endpoints")
    assert only["addressType"] == "IPv4"
    assert only["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] == "endpointslice-controller.k8s.io"
    assert only["metadata"]["ownerReferences"][0]["kind"] == "Service"
    assert only["metadata"]["name"].startswith("web-")


def test_pods_come_with_address_node_and_port_by_name(here: Workloads) -> None:
    here.create(hello(replicas=2), service(target="web"))
    here.until(lambda: list(here.endpoints().values()) == [True, True], "2 ready endpoints")
    (only,) = slices(here)
    assert [p["name"] for p in only["ports"]] == ["http"]
    assert only["ports"][0]["protocol"] == "TCP"
    pods = {pod["metadata"]["name"]: pod for pod in here.all("pod")}
    for endpoint in only["endpoints"]:
        pod = pods[endpoint["targetRef"]["name"]]
        assert endpoint["addresses"] == [pod["status"]["podIP"]]
        assert endpoint["nodeName"] == pod["spec"]["nodeName"]
        assert endpoint["targetRef"]["uid"] == pod["metadata"]["uid"]
        assert endpoint["conditions"] == {"ready": True, "serving": True, "terminating": False}


def test_a_pod_that_is_not_ready_is_there_and_not_ready(here: Workloads) -> None:
    here.create(hello(UNREADY="1"), service())
    here.until(lambda: list(here.endpoints().values()) == [False], "an endpoint")
    assert here.condition("Available")["status"] == "False"
    here.kubectl("set", "env", "deployment/web", "UNREADY-")
    here.until(lambda: list(here.endpoints().values()) == [True], "a ready endpoint")


def test_slices_follow_pods_and_selector_and_go_with_the_service(here: Workloads) -> None:
    here.create(deployment(replicas=2), service())
    here.until(lambda: len(here.endpoints()) == 2, "2 endpoints")
    here.kubectl("scale", "deployment/web", "--replicas=3")
    here.until(lambda: len(here.endpoints()) == 3, "3 endpoints")
    here.patch("service", "web", {"spec": {"selector": {"app": "other"}}})
    here.until(lambda: not here.endpoints() and len(slices(here)) == 1, "no endpoints")
    here.patch("service", "web", {"spec": {"selector": {"app": "web"}}})
    here.until(lambda: len(here.endpoints()) == 3, "3 endpoints again")
    here.kubectl("delete", "service", "web")
    here.until(lambda: not slices(here), "the end of the slices")


def test_a_terminating_pod_serves_and_is_not_ready(here: Workloads) -> None:
    here.create(deployment(replicas=1), service())
    here.until(lambda: list(here.endpoints().values()) == [True], "an endpoint")
    (pod,) = here.pods()
    here.patch("pod", pod, {"metadata": {"finalizers": ["example.com/hold"]}})
    here.kubectl("scale", "deployment/web", "--replicas=0")
    here.until(lambda: ["deletionTimestamp" in one["metadata"] for one in here.all("pod")] == [True], "the held pod")
    here.until(lambda: True not in here.endpoints().values(), "no ready endpoint")
    here.patch("pod", pod, {"metadata": {"finalizers": None}})
    here.until(lambda: not here.endpoints(), "no endpoint")


def test_a_crash_loop_shows_exit_code_restarts_and_the_log_of_the_run_before(here: Workloads) -> None:
    here.create(hello(CRASH="3"))

    def looping() -> Json | None:
        for pod in here.all("pod"):
            for status in pod["status"].get("containerStatuses", ()):
                if (
                    status["restartCount"] >= 1
                    and status["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff"
                ):
                    return dict(status)
        return None

    status = here.until(looping, "a crash loop")
    assert status
    assert status["lastState"]["terminated"]["exitCode"] == 3
    assert status["ready"] is False
    assert "FATAL" in here.kubectl("logs", "deployment/web", "--previous")
    assert here.get("deployment")["status"].get("availableReplicas", 0) == 0


def test_logs_are_those_of_the_container(here: Workloads) -> None:
    here.create(hello())
    here.until(lambda: here.settled(), "a pod")
    assert "listening" in here.kubectl("logs", "deployment/web")
    assert len(here.kubectl("logs", "-l", "app=web", "--tail=1").splitlines()) == 1
    stamped = here.kubectl("logs", "deployment/web", "--timestamps", "--tail=1")
    assert stamped.partition(" ")[0].endswith("Z")


def test_an_image_that_nobody_has_ends_in_a_back_off(here: Workloads) -> None:
    here.create(deployment(image="absent:v1", replicas=1))

    def reasons() -> list[str]:
        statuses = [s for pod in here.all("pod") for s in pod["status"].get("containerStatuses", ())]
        return [status["state"].get("waiting", {}).get("reason", "") for status in statuses]

    here.until(lambda: reasons() == ["ImagePullBackOff"], "the back-off")
    assert here.all("pod")[0]["status"]["phase"] == "Pending"
