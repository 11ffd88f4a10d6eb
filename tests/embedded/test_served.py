"""Pods that are processes on the embedded cluster, over HTTP."""

from __future__ import annotations

import asyncio
import ipaddress
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from davylamp.embedded.cluster import CONTROLLER
from davylamp.embedded.kubelet import network
from davylamp.embedded.kubelet.network import Network
from davylamp.embedded.served import Served, served
from davylamp.embedded.store import Object
from davylamp.embedded.wheels import program
from tests.contract.workloads import deployment, service

PROBE = {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1}


def hello(tag: str, replicas: int = 2, **env: str) -> Object:
    variables = [{"name": name, "value": value} for name, value in {"DRAIN_SECONDS": "0", **env}.items()]
    container = {"ports": [{"name": "web", "containerPort": 8080}], "readinessProbe": PROBE, "env": variables}
    manifest = deployment(replicas=replicas, image=f"hellok8s:{tag}", container=container)
    return {**manifest, "metadata": {**manifest["metadata"], "namespace": "default"}}


async def until(here: Served, condition: Callable[[], Any], seconds: float = 15) -> Any:
    """Waits until something in the cluster is so, looking after each change."""
    changed = asyncio.Event()
    unsubscribe = here.cluster.store.subscribe(lambda *_: changed.set())
    try:
        async with asyncio.timeout(seconds):
            while not (found := condition()):
                changed.clear()
                await changed.wait()
            return found
    finally:
        unsubscribe()


def settled(here: Served) -> bool:
    found = here.cluster.store.get("Deployment", "default", "web")
    assert found is not None
    status = found.get("status", {})
    counts = [status.get(key, 0) for key in ("replicas", "updatedReplicas", "availableReplicas")]
    seen = status.get("observedGeneration") == found["metadata"]["generation"]
    return bool(seen and counts == [found["spec"]["replicas"]] * 3 and not status.get("terminatingReplicas"))


def endpoints(here: Served) -> list[tuple[str, int]]:
    """Where the Service's ready pods are."""
    slices = here.cluster.store.list("EndpointSlice", "default")
    return [
        (endpoint["addresses"][0], slice_["ports"][0]["port"])
        for slice_ in slices
        for endpoint in slice_.get("endpoints") or ()
        if endpoint["conditions"]["ready"]
    ]


async def answers(here: Served) -> list[str]:
    async with aiohttp.ClientSession() as session:
        found = []
        for address, port in endpoints(here):
            async with session.get(f"http://{address}:{port}/") as response:
                found.append(await response.text())
        return found


def admins(here: Served) -> str:
    """The server as the admin has it."""
    return str(msgspec.json.decode(here.kubeconfigs["admin"].read_bytes())["clusters"][0]["cluster"]["server"])


async def get_text(here: Served, path: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(f"{admins(here)}{path}") as response:
        return await response.text()


async def logged(here: Served, path: str, words: str) -> None:
    """Follows a log until it says `words`: a container may be ready before its first line is read."""
    follow = f"{admins(here)}{path}?follow=true"
    async with asyncio.timeout(10), aiohttp.ClientSession() as session, session.get(follow) as response:
        async for line in response.content:
            if words in line.decode():
                return
    raise AssertionError(f"the log ended without {words!r}")


async def test_pods_are_processes_that_answer_and_are_replaced_and_end(tmp_path: Path) -> None:
    async with served(tmp_path) as here:
        here.cluster.store.create(hello("v1"))
        here.cluster.store.create({**service(target="web"), "metadata": {"name": "web", "namespace": "default"}})
        await until(here, lambda: settled(here) and len(endpoints(here)) == 2)
        assert all("v1" in text for text in await answers(here))
        pod = here.cluster.store.list("Pod", "default")[0]["metadata"]["name"]
        await logged(here, f"/api/v1/namespaces/default/pods/{pod}/log", "listening")
        here.cluster.store.patch(
            "Deployment", "default", "web", {"spec": {"template": hello("v2")["spec"]["template"]}}
        )
        await until(here, lambda: settled(here) and len(endpoints(here)) == 2)
        assert all("v2" in text for text in await answers(here))
        left = endpoints(here)
    for address, port in left:
        with pytest.raises(OSError, match="Connect call failed"):
            await asyncio.open_connection(address, port)


async def test_a_process_that_crashes_is_restarted_and_its_last_log_is_kept(tmp_path: Path) -> None:
    async with served(tmp_path, restart_cap=0.1) as here:
        here.cluster.store.create(hello("v1", 1, CRASH="3"))

        def restarted() -> Object | None:
            for pod in here.cluster.store.list("Pod", "default"):
                for status in pod["status"].get("containerStatuses", ()):
                    if status["restartCount"] >= 2:
                        return pod
            return None

        pod: Object = await until(here, restarted)
        assert pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 3
        name = pod["metadata"]["name"]
        assert "FATAL" in await get_text(here, f"/api/v1/namespaces/default/pods/{name}/log?previous=true")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is one loopback address")
def test_clusters_on_one_machine_have_addresses_of_their_own() -> None:
    first, second = (network.on_loopback(["node-1"]) for _ in range(2))
    assert first.nodes == second.nodes == {"node-1": "127.0.0.1"}
    sides = [(ipaddress.ip_address(one.first), ipaddress.ip_address(one.last)) for one in (first, second)]
    (low, low_end), (high, _) = sorted(sides, key=lambda side: int(side[0]))
    assert int(low_end) < int(high)
    assert all(address.is_loopback for side in sides for address in side)
    assert int(low_end) - int(low) == 1021


async def test_where_pods_share_an_address_each_has_a_port_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where 127.0.0.1 is the only loopback address (macOS)."""
    monkeypatch.setattr(sys, "platform", "darwin")
    shared = network.on_loopback(["node-1"])
    monkeypatch.undo()
    assert shared == Network({"node-1": "127.0.0.1"}, "127.0.0.1", "127.0.0.1", shared=True)
    monkeypatch.setattr("davylamp.embedded.served.on_loopback", lambda nodes: shared)
    async with served(tmp_path) as here:
        here.cluster.store.create(hello("v1"))
        here.cluster.store.create({**service(), "metadata": {"name": "web", "namespace": "default"}})
        await until(here, lambda: settled(here) and len(endpoints(here)) == 2)
        found = endpoints(here)
        assert {address for address, _ in found} == {"127.0.0.1"}
        assert len({port for _, port in found}) == 2
        pods = here.cluster.store.list("Pod", "default")
        said = [msgspec.json.decode(pod["metadata"]["annotations"]["davylamp.dev/ports"]) for pod in pods]
        assert sorted(ports["8080"] for ports in said) == sorted(port for _, port in found)
        assert all("v1" in text for text in await answers(here))
        assert {(await proxied(here, pod["metadata"]["name"], "8080"))[1] for pod in pods} == set(await answers(here))


async def proxied(here: Served, pod: str, port: str, path: str = "/") -> tuple[int, str]:
    url = f"{admins(here)}/api/v1/namespaces/default/pods/{pod}{f':{port}' if port else ''}/proxy{path}"
    async with aiohttp.ClientSession() as session, session.get(url, headers={"X-Secret": "1"}) as response:
        return response.status, await response.text()


async def test_a_pod_is_asked_by_way_of_the_server(tmp_path: Path) -> None:
    async with served(tmp_path) as here:
        here.cluster.store.create(hello("v1", 1))
        await until(here, lambda: settled(here))
        (pod,) = (pod["metadata"]["name"] for pod in here.cluster.store.list("Pod", "default"))
        for port in ("8080", "web", ""):
            code, text = await proxied(here, pod, port, "/?a=b")
            assert (code, text) == (200, f"hello, version v1, pod {pod}\n")
        assert "http_requests_total" in (await proxied(here, pod, "8080", "/metrics"))[1]
        assert (await proxied(here, pod, "8080", "/not/there"))[0] == 404
        for name, port, code, said in (
            ("nobody", "8080", 404, "not found"),
            (pod, "1", 503, "error trying to reach service"),
            (pod, "no-such", 503, "no such port"),
            (f"https:{pod}", "8080", 501, "TLS"),
        ):
            found, text = await proxied(here, name, port)
            assert (found, said in text) == (code, True), text


async def test_an_imagined_pod_answers_nobody(tmp_path: Path) -> None:
    async with served(tmp_path, processes=False) as here:
        here.cluster.store.create(hello("v1", 1))
        await until(here, lambda: settled(here))
        (pod,) = (pod["metadata"]["name"] for pod in here.cluster.store.list("Pod", "default"))
        code, text = await proxied(here, pod, "8080")
        assert (code, "imagined" in text) == (501, True)


async def test_the_files_with_the_secrets_are_nobody_elses_to_read(tmp_path: Path) -> None:
    state = tmp_path / "state"
    async with served(state, processes=False) as here:
        found = {short: path.stat().st_mode & 0o777 for short, path in here.kubeconfigs.items()}
        assert found == dict.fromkeys(("admin", "davylamp", "traefik", "kubelet"), 0o600)
        assert state.stat().st_mode & 0o777 == 0o700
        here.kubeconfigs["admin"].chmod(0o644)
    async with served(state, processes=False) as here:
        assert here.kubeconfigs["admin"].stat().st_mode & 0o777 == 0o600
        assert admins(here) != here.address


async def test_each_kubeconfig_is_its_user_for_kubectl_too(tmp_path: Path) -> None:
    async with served(tmp_path, processes=False) as here:
        for short, user in {"admin": "kubernetes-admin", "davylamp": CONTROLLER, "traefik": "traefik"}.items():
            command = [
                str(program("kubectl")),
                f"--kubeconfig={here.kubeconfigs[short]}",
                "auth",
                "whoami",
                "-o",
                "json",
            ]
            process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
            out, _ = await process.communicate()
            assert msgspec.json.decode(out)["status"]["userInfo"]["username"] == user


@pytest.mark.parametrize(
    ("command", "kind", "name"),
    [
        ("create namespace more", "Namespace", "more"),
        ("create deployment web --image=hellok8s:v1 --replicas=0", "Deployment", "web"),
        ("create service clusterip web --tcp=80:3000", "Service", "web"),
        ("create ingress web --rule=example.org/=web:80 --class=nginx", "Ingress", "web"),
        ("create configmap web --from-literal=a=b", "ConfigMap", "web"),
    ],
)
async def test_a_typed_command_of_kubectl_makes_what_it_says(
    tmp_path: Path, command: str, kind: str, name: str
) -> None:
    async with served(tmp_path, processes=False) as here:
        line = [str(program("kubectl")), f"--kubeconfig={here.kubeconfigs['admin']}", *command.split()]
        process = await asyncio.create_subprocess_exec(*line, stderr=asyncio.subprocess.PIPE)
        _, error = await process.communicate()
        assert process.returncode == 0, error.decode()
        namespace = "" if kind == "Namespace" else "default"
        assert here.cluster.store.get(kind, namespace, name) is not None
