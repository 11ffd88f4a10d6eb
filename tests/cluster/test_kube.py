"""The client, the reflector, the writer and the Lease on a real API server."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from davylab import Lab

from davylamp.core.actions import Announce, Create, Delete, Patch, Ref
from davylamp.kube import lease
from davylamp.kube.apply import Writer
from davylamp.kube.client import Kube, connect
from davylamp.kube.clock import SystemClock
from davylamp.kube.errors import ApiError
from davylamp.kube.lease import Election
from davylamp.kube.reflector import Reflector
from davylamp.kube.store import Store
from tests.cluster.shop import Shop, policy_manifest


class Relay:
    """A way to the API server that can be cut and mended."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def mend(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in list(self._open):
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._port)
            self._open |= {writer, inner_writer}
            await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()


async def until(condition: Callable[[], Any], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.02)


@pytest.fixture
async def kube(lab: Lab) -> AsyncIterator[Kube]:
    async with connect(str(lab.kubeconfig)) as kube:
        yield kube


@pytest.fixture
async def namespace(kube: Kube) -> AsyncIterator[str]:
    name = f"kube-{secrets.token_hex(3)}"
    await kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield name
    await kube.delete(Ref("Namespace", "", name))


def config_map(namespace: str, name: str = "a", **data: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, "labels": {"made": "here"}},
        "data": data,
    }


class Watched:
    """A reflector of the objects that a test makes, while a block runs."""

    def __init__(self, kube: Kube, namespace: str, kind: str = "ConfigMap", resource_version: str = "") -> None:
        self.store: Store[Any] = Store(kind)
        self.restarts: list[str] = []
        self.reflector = Reflector(
            kube,
            self.store,
            SystemClock(),
            namespace=namespace,
            labels="made=here",
            on_restart=lambda kind, why: self.restarts.append(why),
        )
        self.reflector._resource_version = resource_version

    @property
    def names(self) -> list[str]:
        return sorted(obj.metadata.name for obj in self.store)

    async def __aenter__(self) -> Watched:
        self.task = asyncio.create_task(self.reflector.run())
        return self

    async def __aexit__(self, *error: object) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def test_a_streaming_list_brings_what_there_is_and_what_comes(kube: Kube, namespace: str) -> None:
    requests: list[str] = []
    await kube.create(config_map(namespace, "before"))
    kube.on_request = lambda verb, kind, code: requests.append(verb)
    async with Watched(kube, namespace) as watched:
        await asyncio.wait_for(watched.reflector.synced.wait(), 60)
        assert watched.names == ["before"]
        assert requests == ["watch"]
        await kube.create(config_map(namespace, "after"))
        await kube.delete(Ref("ConfigMap", namespace, "before"))
        await until(lambda: watched.names == ["after"])


async def test_too_old_a_resource_version_is_listed_again(installed: Lab, kube: Kube, namespace: str) -> None:
    """Our own kinds came to the cluster late, so that its first versions are too old for them in any case."""
    manifest = policy_manifest("a", {"target": {"name": "a"}, "steps": [{"weight": 100}]})
    manifest["metadata"] |= {"namespace": namespace, "labels": {"made": "here"}}
    await kube.create(manifest)
    async with asyncio.timeout(60):
        with pytest.raises(ApiError) as caught:
            _ = [event async for event in kube.watch("ReleasePolicy", namespace, resource_version="1", initial=False)]
    assert caught.value.gone
    async with Watched(kube, namespace, "ReleasePolicy", resource_version="1") as watched:
        await until(lambda: watched.names == ["a"])
        assert watched.restarts == ["expired"]


async def test_a_connection_that_was_cut_is_resumed_without_a_list(lab: Lab, namespace: str, tmp_path: Path) -> None:
    config = yaml.safe_load(lab.kubeconfig.read_text())
    cluster = config["clusters"][0]["cluster"]
    relay = Relay(int(cluster["server"].rpartition(":")[2]))
    await relay.mend()
    cluster["server"] = f"https://127.0.0.1:{relay.port}"
    (tmp_path / "config").write_text(yaml.safe_dump(config))
    requests: list[tuple[str, int]] = []
    async with connect(str(lab.kubeconfig)) as direct, connect(str(tmp_path / "config")) as through:
        through.on_request = lambda verb, kind, code: requests.append((verb, code))
        async with Watched(through, namespace) as watched:
            await watched.reflector.synced.wait()
            await direct.create(config_map(namespace, "before"))
            await until(lambda: watched.names == ["before"])
            await relay.cut()
            await direct.create(config_map(namespace, "meanwhile"))
            await until(lambda: "failed" in watched.restarts)
            await relay.mend()
            await until(lambda: watched.names == ["before", "meanwhile"])
        await relay.cut()
    assert {verb for verb, _ in requests} == {"watch"}
    assert len([code for _, code in requests if code == 200]) == 2


async def test_our_own_writes_are_known_at_once_and_stay_right(kube: Kube, namespace: str) -> None:
    async with Watched(kube, namespace) as watched:
        await watched.reflector.synced.wait()
        writer = Writer(kube, {"ConfigMap": watched.store}, SystemClock())
        ref = Ref("ConfigMap", namespace, "a")
        for round_ in range(10):
            await writer.carry_out([Create(config_map(namespace)), Patch(ref, {"data": {"round": str(round_)}})])
            found = watched.store.get(namespace, "a")
            assert found is not None
            await writer.carry_out([Delete(ref, found.metadata.uid)])
            assert watched.names == []
        await kube.create(config_map(namespace, "last"))
        await until(lambda: "last" in watched.names)
        assert watched.names == ["last"]


async def test_a_stale_write_is_a_conflict_in_both_kinds_of_patch(kube: Kube, namespace: str) -> None:
    made = await kube.create(config_map(namespace))
    ref, old = Ref("ConfigMap", namespace, "a"), made.metadata.resource_version
    await kube.patch(Patch(ref, {"data": {"a": "1"}}))
    replaced = [{"op": "replace", "path": "/metadata/resourceVersion", "value": old}]
    for stale in (
        Patch(ref, {"metadata": {"resourceVersion": old}, "data": {"a": "2"}}),
        Patch(ref, [*replaced, {"op": "add", "path": "/data/a", "value": "2"}], type="json"),
    ):
        with pytest.raises(ApiError) as caught:
            await kube.patch(stale)
        assert caught.value.conflict


async def test_deleting_another_object_of_the_same_name_is_a_conflict(kube: Kube, namespace: str) -> None:
    await kube.create(config_map(namespace))
    with pytest.raises(ApiError) as caught:
        await kube.delete(Ref("ConfigMap", namespace, "a"), uid="00000000-0000-0000-0000-000000000000")
    assert caught.value.conflict


async def test_an_object_with_finalizers_lives_on_until_the_last_is_gone(kube: Kube, namespace: str) -> None:
    manifest = config_map(namespace)
    manifest["metadata"]["finalizers"] = ["davylamp.dev/release"]
    made = await kube.create(manifest)
    store: Store[Any] = Store("ConfigMap")
    store.offer(made)
    writer = Writer(kube, {"ConfigMap": store}, SystemClock())
    ref = Ref("ConfigMap", namespace, "a")
    await writer.carry_out([Delete(ref, made.metadata.uid)])
    found = store.get(namespace, "a")
    assert found is not None
    assert found.metadata.deletion_timestamp is not None
    await writer.carry_out([Patch(ref, {"metadata": {"finalizers": None}})])
    assert store.get(namespace, "a") is None
    assert await kube.read(ref) is None


async def test_an_event_is_written_once_and_takes_a_long_message(kube: Kube, namespace: str) -> None:
    made = await kube.create(config_map(namespace))
    about = Ref("ConfigMap", namespace, "a")
    told = Announce("a.told", about, made.metadata.uid, "Told", "ä" * 3000, warning=True, related=about)
    for _ in range(2):
        writer = Writer(kube, {}, SystemClock(), instance="a-test")
        await writer.carry_out([told])
        await writer.drain()
    (event,) = await kube.list_raw("Event", namespace)
    assert (event["type"], event["reason"], event["regarding"]["uid"]) == ("Warning", "Told", made.metadata.uid)


async def test_apply_makes_what_is_not_there_and_owns_its_fields(kube: Kube, namespace: str) -> None:
    await kube.apply(config_map(namespace, a="1"))
    await kube.patch(Patch(Ref("ConfigMap", namespace, "a"), {"data": {"theirs": "2"}}))
    await kube.apply(config_map(namespace, b="3"))
    found = await kube.get(Ref("ConfigMap", namespace, "a"))
    assert found is not None
    assert found["data"] == {"b": "3", "theirs": "2"}
    managers = {(entry["manager"], entry["operation"]) for entry in found["metadata"]["managedFields"]}
    assert managers == {("davylamp", "Apply"), ("davylamp", "Update")}


async def test_a_long_list_comes_in_pages(kube: Kube, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("davylamp.kube.client.PAGE", 2)
    for name in "abcde":
        await kube.create(config_map(namespace, name))
    pages = [page async for page in kube.pages("ConfigMap", namespace, "made=here")]
    assert [len(page.items) for page in pages] == [2, 2, 1]
    assert len({page.resource_version for page in pages}) == 1
    assert len(await kube.list_raw("ConfigMap", namespace, "made=here")) == 5


async def test_who_and_what_the_server_is(lab: Lab) -> None:
    async with connect(str(lab.kubeconfig_of("davylamp"))) as kube:
        assert await kube.whoami() == "system:serviceaccount:davylamp-system:davylamp"
        assert (await kube.version())["gitVersion"].startswith("v1.")
        assert await kube.exists_api("apps/v1", "deployments")
        assert not await kube.exists_api("apps/v1", "lamps")
        assert not await kube.exists_api("lamps/v1", "lamps")


async def test_what_is_forbidden_is_said_with_verb_and_resource(lab: Lab, kube: Kube, namespace: str) -> None:
    made = config_map(namespace)
    async with connect(str(lab.kubeconfig_of("davylamp"))) as davylamp:
        with pytest.raises(ApiError, match=r'cannot create resource "configmaps".*in the namespace') as caught:
            await davylamp.create(made)
    assert caught.value.forbidden


async def test_a_wrong_token_and_a_wrong_certificate_are_told_apart(lab: Lab, tmp_path: Path) -> None:
    config = yaml.safe_load(lab.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": "wrong"}
    (tmp_path / "token").write_text(yaml.safe_dump(config))
    cluster = config["clusters"][0]["cluster"]
    for key in ("certificate-authority", "certificate-authority-data"):
        cluster.pop(key, None)
    (tmp_path / "tls").write_text(yaml.safe_dump(config))
    async with connect(str(tmp_path / "token")) as kube:
        with pytest.raises(ApiError, match="does not know who is asking") as caught:
            await kube.list("Service")
        assert caught.value.unauthorized
    async with connect(str(tmp_path / "tls")) as kube:
        with pytest.raises(ApiError, match=r"can't be trusted: .*certificate") as caught:
            await kube.list("Service")
        assert caught.value.reason == "TLS"


async def test_the_end_of_a_log_is_read_and_followed(kube: Kube, shop: Shop) -> None:
    shop.open(replicas=1, ingress=False, ACCESS_LOG="on")
    (pod,) = shop.pods()
    assert await kube.logs(shop.namespace, pod, "hellok8s", tail=1)
    lines = kube.follow_logs(shop.namespace, pod, "hellok8s", tail=1)
    assert await asyncio.wait_for(anext(lines), 60)
    await lines.aclose()


# --- the Lease, with times shorter than the real ones ---


class Candidate:
    def __init__(self, kube: Kube, ref: Ref, name: str, leaders: list[str]) -> None:
        self.name, self.leaders = name, leaders
        self.task = asyncio.create_task(Election(kube, SystemClock(), ref, name).run(self.work))

    async def work(self) -> None:
        assert not self.leaders, f"{self.name} began while {self.leaders} led"
        self.leaders.append(self.name)
        try:
            await asyncio.Event().wait()
        finally:
            self.leaders.remove(self.name)

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def test_one_leads_and_another_follows_at_once_or_after_the_lease_ran_out(
    lab: Lab, kube: Kube, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("DURATION", 600.0), ("DEADLINE", 4.0), ("RENEW", 0.5), ("RETRY", 0.2)):
        monkeypatch.setattr(lease, name, seconds)
    config = yaml.safe_load(lab.kubeconfig.read_text())
    cluster = config["clusters"][0]["cluster"]
    relay = Relay(int(cluster["server"].rpartition(":")[2]))
    await relay.mend()
    cluster["server"] = f"https://127.0.0.1:{relay.port}"
    (tmp_path / "config").write_text(yaml.safe_dump(config))
    ref, leaders = Ref("Lease", namespace, "davylamp"), list[str]()
    async with connect(str(tmp_path / "config")) as through:
        first = Candidate(kube, ref, "first", leaders)
        await until(lambda: leaders == ["first"])
        asked: list[str] = []
        through.on_request = kube.on_request = lambda verb, kind, code: asked.append(verb)
        second = Candidate(through, ref, "second", leaders)
        await until(lambda: asked.count("get") >= 3)
        assert leaders == ["first"]
        monkeypatch.setattr(lease, "DURATION", 6.0)
        await first.stop()
        await until(lambda: leaders == ["second"])  # long before the first one's lease ran out
        asked.clear()
        third = Candidate(kube, ref, "third", leaders)
        await until(lambda: asked.count("get") >= 1)
        assert leaders == ["second"]
        await relay.cut()
        await until(lambda: leaders == ["third"])
        await third.stop()
        await second.stop()
    found = await kube.get(ref)
    assert found is not None
    assert found["spec"].get("holderIdentity") is None
    assert found["spec"]["leaseTransitions"] >= 2
