"""`davy install` on the embedded cluster, in the process and over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from davylamp.core.actions import Patch, Ref
from davylamp.embedded.client import Local
from davylamp.embedded.server import Server
from davylamp.embedded.status import StatusError
from davylamp.embedded.store import Object, Store
from davylamp.kube.client import connect
from davylamp.kube.clock import SystemClock
from davylamp.kube.errors import ApiError
from davylamp.kube.install import Options, install
from davylamp.kube.protocol import Api
from davylamp.kube.trial import trial
from tests.kube.controllers import NAMESPACE, deployment, policy

OPTIONS = Options()
Both = tuple[Api, Api]


@pytest.fixture
def store() -> Store:
    store = Store(SystemClock())
    for name in ("default", NAMESPACE):
        store.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return store


@pytest.fixture(params=["in the process", "over HTTP"])
async def both(request: pytest.FixtureRequest, store: Store, tmp_path: Path) -> AsyncIterator[Both]:
    """The API, and the same with writes that are only tried."""
    if request.param == "in the process":
        yield Local(store), Local(store, dry_run=True)
        return
    async with Server(store, {"secret": "admin"}).running() as address:
        kubeconfig = tmp_path / "kubeconfig"
        kubeconfig.write_text(yaml.safe_dump(_kubeconfig(address)))
        async with connect(str(kubeconfig)) as kube, trial(kube) as tried:
            yield kube, tried


@pytest.fixture
def api(both: Both) -> Api:
    return both[0]


def _kubeconfig(address: str) -> Object:
    return {
        "clusters": [{"name": "it", "cluster": {"server": address}}],
        "users": [{"name": "it", "user": {"token": "secret"}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        "current-context": "it",
    }


async def test_installing_twice_works_and_changes_nothing_the_second_time(both: Both) -> None:
    first = await install(*both, OPTIONS, SystemClock())
    assert {change.result for change in first.changes} == {"created"}
    assert first.gate_active_after is not None
    second = await install(*both, OPTIONS, SystemClock())
    assert {change.result for change in second.changes} == {"unchanged"}


async def test_the_gate_holds_everybody_but_the_controller(store: Store, both: Both) -> None:
    api = both[0]
    await install(*both, OPTIONS, SystemClock())
    await api.create(policy())
    await api.create(deployment())

    async def changed(who: Api, image: str) -> bool:
        spec = {"template": {"spec": {"containers": [{"name": "app", "image": image}]}}}
        return bool((await who.patch(Patch(Ref("Deployment", NAMESPACE, "web"), {"spec": spec}))).spec.paused)

    assert not await changed(Local(store, user=OPTIONS.user), "hellok8s:v2")
    assert await changed(api, "hellok8s:v3")


async def test_a_refusal_is_the_same_exception_either_way(api: Api) -> None:
    await api.create(deployment())
    with pytest.raises(ApiError) as refused:
        await api.create(deployment())
    assert refused.value.already_exists
    with pytest.raises(ApiError) as conflict:
        await api.patch(Patch(Ref("Deployment", NAMESPACE, "web"), {"metadata": {"resourceVersion": "1"}}))
    assert conflict.value.conflict
    assert await api.get(Ref("Deployment", NAMESPACE, "none")) is None


async def test_a_watch_that_begins_too_far_back_is_gone_either_way(store: Store, api: Api) -> None:
    await api.create(deployment())
    store.compact()
    with pytest.raises(ApiError) as refused:
        await anext(api.watch("Deployment", resource_version="1", initial=False))
    assert refused.value.gone


async def test_a_watch_tells_of_everything_and_then_of_changes(store: Store, api: Api) -> None:
    await api.create(deployment())
    seen = []
    async for event in api.watch("Deployment", NAMESPACE):
        seen.append((event.type, event.synced))
        if event.synced:
            store.patch("Deployment", NAMESPACE, "web", {"spec": {"replicas": 9}})
        if event.type == "MODIFIED":
            assert event.object.spec.replicas == 9
            break
    assert seen == [("ADDED", False), ("BOOKMARK", True), ("MODIFIED", False)]


def test_a_policy_that_is_not_the_gates_is_refused_not_stored(store: Store) -> None:
    other = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": "other"},
        "spec": {"mutations": [], "reinvocationPolicy": "Never"},
    }
    with pytest.raises(StatusError) as refused:
        store.create(other)
    assert refused.value.code == 501
    assert store.list("MutatingAdmissionPolicy") == []
