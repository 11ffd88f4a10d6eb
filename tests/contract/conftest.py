"""Every test here runs on the embedded cluster and, marked `cluster`, on the real control plane, which is right."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import pytest

from tests.contract.harness import Cluster, Running, Space
from tests.contract.workloads import Workloads

_numbers = itertools.count(1)


@pytest.fixture(scope="session", params=["embedded", pytest.param("real", marks=pytest.mark.cluster)])
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """$DAVYLAB_STATE names a real control plane that is running already; otherwise one is started."""
    if request.param == "embedded":
        running = Running(tmp_path_factory.mktemp("embedded"))
        yield Cluster(running.kubeconfig, real=False, forget=running.forget)
        running.stop()
        return
    from davylab import Lab
    from davylab.identity import Paths

    state = os.environ.get("DAVYLAB_STATE")
    with Lab.attach(state) if state else Lab() as lab:
        certificate = Paths(lab.state).certificate
        yield Cluster(lab.kubeconfig, real=True, certificate=certificate)


LOST = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "lost"},
    "spec": {"nodeName": "nowhere", "containers": [{"name": "app", "image": "hellok8s:v1"}]},
}


@pytest.fixture(scope="session")
def lost(cluster: Cluster) -> Space:
    """A namespace with a pod on a Node that doesn't exist."""
    here = Space(cluster, f"lost-{os.getpid()}")
    cluster.ask("POST", "/api/v1/namespaces", {"metadata": {"name": here.name}})
    account = here.path("serviceaccounts", "default")
    cluster.wait(lambda: cluster.request("GET", account).code == 200, "the default service account")
    assert here.create("pods", LOST)["spec"]["nodeName"] == "nowhere"
    return here


@pytest.fixture
def space(cluster: Cluster) -> Iterator[Space]:
    """A namespace with nothing in it but what a real control plane puts into each; deleted after the test."""
    name = f"contract-{os.getpid()}-{next(_numbers)}"
    cluster.ask("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    space = Space(cluster, name)
    if cluster.real:
        cluster.wait(lambda: space.find("serviceaccounts", "default"), "the default service account")
        cluster.wait(lambda: space.find("configmaps", "kube-root-ca.crt"), "the authority's certificate")
    yield space
    cluster.request("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture
def here(space: Space) -> Workloads:
    """The same namespace, asked about its workloads."""
    return Workloads(space)
