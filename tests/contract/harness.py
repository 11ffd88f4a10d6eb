"""One way to ask both clusters: the embedded one, served over HTTP, and the real control plane."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

import msgspec
import yaml

from davylamp.embedded.cluster import Cluster as Embedded
from davylamp.embedded.kubelet.imagined import Course
from davylamp.embedded.server import Server, url
from davylamp.kube.clock import SystemClock

Json = dict[str, Any]
T = TypeVar("T")

JSON = "application/json"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY = "application/apply-patch+yaml"
TIMEOUT = 60.0
POLL = 0.02


class Answer(msgspec.Struct, frozen=True):
    """`body` is the JSON, or the text of what is none."""

    code: int
    body: Any
    headers: dict[str, str]

    @property
    def reason(self) -> str:
        return str(self.body.get("reason", "")) if isinstance(self.body, dict) else ""

    @property
    def message(self) -> str:
        return str(self.body.get("message", "")) if isinstance(self.body, dict) else str(self.body)


class Done(msgspec.Struct, frozen=True):
    """What a kubectl has done."""

    code: int
    out: str
    err: str


class Cluster:
    """One API server as its administrator. `real` says which one, for the few things that differ on purpose."""

    def __init__(
        self,
        kubeconfig: Path,
        *,
        real: bool,
        certificate: Path | None = None,
        forget: Callable[[], object] = lambda: None,
    ) -> None:
        self.kubeconfig = kubeconfig
        self.real = real
        self.forget = forget
        """Has the embedded one forget what has happened so far, as others do after a while."""
        content = yaml.safe_load(kubeconfig.read_text())
        self.server: str = content["clusters"][0]["cluster"]["server"]
        self.token: str = content["users"][0]["user"]["token"]
        self._tls = ssl.create_default_context(cafile=str(certificate)) if certificate else None

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        content_type: str = JSON,
        *,
        accept: str = JSON,
        token: str | None = None,
        **params: Any,
    ) -> Answer:
        """One request, whatever it is answered with."""
        with contextlib.closing(self._connection()) as connection:
            self._send(connection, method, path, body, content_type, accept, params, token)
            answer = connection.getresponse()
            raw = answer.read()
            headers = {key.lower(): value for key, value in answer.getheaders()}
        is_json = "json" in headers.get("content-type", "")
        return Answer(answer.status, json.loads(raw) if is_json else raw.decode(errors="replace"), headers)

    def ask(self, method: str, path: str, body: Any = None, content_type: str = JSON, **params: Any) -> Any:
        """The body of a request that succeeds."""
        answer = self.request(method, path, body, content_type, **params)
        assert answer.code < 300, f"{method} {path}: {answer.code} {answer.message}"
        return answer.body

    def watch(self, path: str, *, seconds: int = 20, accept: str = JSON, **params: Any) -> Iterator[Json]:
        """The events of a watch as they come, until the server ends it (or it is closed)."""
        with contextlib.closing(self._connection()) as connection:
            query = {"watch": "true", "timeoutSeconds": str(seconds), **params}
            self._send(connection, "GET", path, None, JSON, accept, query, None)
            answer = connection.getresponse()
            assert answer.status == 200, answer.read().decode()
            for line in answer:
                yield json.loads(line)

    def _connection(self) -> http.client.HTTPConnection:
        where = urlsplit(self.server)
        assert where.hostname
        if self._tls is not None:
            return http.client.HTTPSConnection(where.hostname, where.port, timeout=TIMEOUT, context=self._tls)
        return http.client.HTTPConnection(where.hostname, where.port, timeout=TIMEOUT)

    def _send(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: Any,
        content_type: str,
        accept: str,
        params: Json,
        token: str | None,
    ) -> None:
        path = f"{urlsplit(self.server).path}{path}"
        url = f"{path}?{urlencode(params)}" if params else path
        headers = {"Accept": accept, "User-Agent": "contract/1", "Authorization": f"Bearer {token or self.token}"}
        if body is not None:
            headers["Content-Type"] = content_type
        raw = body if body is None or isinstance(body, bytes) else json.dumps(body)
        connection.request(method, url, raw, headers)

    # --- kubectl ---

    def command(self, *args: str) -> list[str]:
        return ["kubectl", f"--kubeconfig={self.kubeconfig}", *args]

    def kubectl(self, *args: str, input: str | None = None, check: bool = True, **env: str) -> Done:
        import os

        done = subprocess.run(
            self.command(*args),
            input=input,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env={**os.environ, **env},
        )
        assert not check or done.returncode == 0, f"kubectl {' '.join(args)}: {done.stdout}{done.stderr}"
        return Done(done.returncode, done.stdout, done.stderr)

    @staticmethod
    def wait(predicate: Callable[[], T], what: str = "it", timeout: float = TIMEOUT) -> T:
        """The answer of `predicate` once it is true; AssertionError after `timeout` seconds."""
        end = time.monotonic() + timeout
        while not (found := predicate()):
            assert time.monotonic() < end, f"{what} did not come true within {timeout:g} s: {found!r}"
            time.sleep(POLL)
        return found


class Space:
    """A namespace of one test, and its objects by their short names."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster = cluster
        self.name = name

    def path(self, plural: str, name: str = "", subresource: str = "") -> str:
        """The URL path of a collection or an object in this namespace; `plural` is as in `deployments.apps`."""
        resource, _, group = plural.partition(".")
        prefix = f"/apis/{group}/{VERSIONS.get(group, 'v1')}" if group else "/api/v1"
        parts = [prefix, "namespaces", self.name, resource, name, subresource]
        return "/".join(part for part in parts if part)

    def kubectl(self, *args: str, input: str | None = None, check: bool = True, **env: str) -> Done:
        return self.cluster.kubectl("-n", self.name, *args, input=input, check=check, **env)

    def request(self, method: str, plural: str, name: str = "", body: Any = None, **more: Any) -> Answer:
        subresource = more.pop("subresource", "")
        return self.cluster.request(method, self.path(plural, name, subresource), body, **more)

    def create(self, plural: str, body: Json, **params: Any) -> Json:
        found: Json = self.cluster.ask("POST", self.path(plural), body, **params)
        return found

    def get(self, plural: str, name: str) -> Json:
        found: Json = self.cluster.ask("GET", self.path(plural, name))
        return found

    def find(self, plural: str, name: str) -> Json | None:
        answer = self.request("GET", plural, name)
        assert answer.code in (200, 404), answer.message
        return answer.body if answer.code == 200 else None

    def list(self, plural: str, **params: Any) -> list[Json]:
        found: list[Json] = self.cluster.ask("GET", self.path(plural), **params)["items"]
        return found

    def patch(self, plural: str, name: str, body: Any, content_type: str = MERGE, **more: Any) -> Json:
        path = self.path(plural, name, more.pop("subresource", ""))
        found: Json = self.cluster.ask("PATCH", path, body, content_type, **more)
        return found

    def delete(self, plural: str, name: str, body: Json | None = None) -> Any:
        return self.cluster.ask("DELETE", self.path(plural, name), body)

    def apply(self, *manifests: Json) -> None:
        """By kubectl."""
        self.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(manifests))

    def wait(self, predicate: Callable[[], T], what: str = "it", timeout: float = TIMEOUT) -> T:
        return self.cluster.wait(predicate, what, timeout)


VERSIONS = {"davylamp.dev": "v1alpha1", "autoscaling": "v2"}


# --- the embedded cluster, in a thread of this process ---


class Running:
    """The embedded cluster with its controllers and quick imagined pods, on the wall clock."""

    def __init__(self, folder: Path) -> None:
        self.kubeconfig = folder / "kubeconfig"
        self._ready = threading.Event()
        self._stop: Callable[[], object] = lambda: None
        self._problem: BaseException | None = None
        self._thread = threading.Thread(target=self._main, daemon=True)
        self._thread.start()
        self._ready.wait(10)
        if self._problem is not None:
            raise self._problem

    def forget(self) -> None:
        """Returns when it is forgotten."""
        done = threading.Event()
        self._loop.call_soon_threadsafe(self._cluster.store.compact)
        self._loop.call_soon_threadsafe(done.set)
        assert done.wait(10)

    def stop(self) -> None:
        self._stop()
        self._thread.join(10)

    def _main(self) -> None:
        try:
            asyncio.run(self._run())
        except BaseException as error:
            self._problem = error
        finally:
            self._ready.set()

    async def _run(self) -> None:
        over = asyncio.Event()
        self._loop = loop = asyncio.get_running_loop()
        self._stop = lambda: loop.call_soon_threadsafe(over.set)
        self._cluster = cluster = Embedded(SystemClock(), behave=as_hellok8s, quarantine=1.0)
        server = Server(cluster.store, {"secret": "admin"})
        async with cluster, server.running() as address:
            self.kubeconfig.write_text(yaml.safe_dump(_kubeconfig(url(address, "secret"), "secret")))
            self._ready.set()
            await over.wait()


def as_hellok8s(pod: Json) -> Course:
    """Quick, and with the faults that the variables of hellok8s and unknown images make."""
    container = pod["spec"]["containers"][0]
    env = {variable["name"]: variable.get("value", "") for variable in container.get("env", ())}
    log = "INFO hellok8s listening\nFATAL told to crash" if "CRASH" in env else "INFO hellok8s listening"
    return Course(
        start=0.05,
        ready=None if {"UNREADY", "CRASH"} & env.keys() else 0.05,
        crash=float(env.get("CRASH_AFTER", 0.05)) if "CRASH" in env else None,
        exit_code=int(env.get("CRASH", 0)),
        pulled=not container["image"].startswith("absent"),
        pull_back_off=0.1,
        end=0.05,
        log=log,
    )


def _kubeconfig(server: str, token: str) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "it", "cluster": {"server": server}}],
        "users": [{"name": "it", "user": {"token": token}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        "current-context": "it",
    }
