"""Pods without processes: they start, become ready, crash and end on time, on any clock. For simulation and tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from davylamp.embedded import status
from davylamp.embedded.kubelet import model
from davylamp.embedded.kubelet.model import ContainerView, Pod, Running, Terminated, Waiting
from davylamp.embedded.kubelet.network import Addresses, Network
from davylamp.embedded.status import StatusError
from davylamp.embedded.store import Object, Store
from davylamp.embedded.writing import stamp
from davylamp.kube.clock import Timer

NODE = "imagined"
NETWORK = Network({NODE: "10.244.0.10"}, "10.244.1.1", "10.244.255.255")
BACK_OFF_FIRST, BACK_OFF_LAST = 10.0, 300.0
"""Seconds before a restart: none, then these, doubling (kubelet: MaxContainerBackOff, backOffPeriod)."""
FORGIVEN_AFTER = 600.0
"""Seconds of running after which the next crash counts as the first again."""
USER = f"system:node:{NODE}"


class Course(msgspec.Struct, frozen=True):
    """What becomes of a pod's containers. Seconds; None: never."""

    start: float = 1.0
    """From the binding to the start: the image is there, the container is made."""
    ready: float | None = 2.0
    """From the start until the readiness probe succeeds."""
    crash: float | None = None
    """From each start until the container ends by itself."""
    exit_code: int = 1
    pulled: bool = True
    """False: there is no such image."""
    pull_back_off: float = 10.0
    """For how long ErrImagePull is shown before ImagePullBackOff."""
    end: float = 0.5
    """From the request to stop until it has."""
    log: str = ""
    """What each run writes."""


Behave = Callable[[Object], Course]
"""The course of a pod, asked when it is bound."""


class Imagined:
    """Runs all pods of one imagined Node, between `start` and `stop`."""

    def __init__(self, store: Store, behave: Behave = lambda pod: Course(), network: Network = NETWORK) -> None:
        self._store = store
        self._clock = store.clock
        self._behave = behave
        self._network = network
        self._addresses = Addresses(network)
        self._lives: dict[str, _Life] = {}
        self._unsubscribe: Callable[[], object] | None = None

    def start(self) -> None:
        """Register the Nodes, and take on the pods that are there."""
        for name, address in self._network.nodes.items():
            if self._store.get("Node", "", name) is None:
                self._store.create(_node(name, address, stamp(self._clock.now())))
        self._unsubscribe = self._store.subscribe(self._see, "Pod")
        self._store.logs = self
        for pod in self._store.list("Pod"):
            self._see("ADDED", pod, None)

    def stop(self) -> None:
        if self._unsubscribe is not None:
            self._unsubscribe()
        for life in self._lives.values():
            life.forget()
        self._lives.clear()

    def set_ready(self, namespace: str, name: str, ready: bool) -> None:
        """Let a running pod's probe succeed or fail from now on. Raises StatusError where there is no such pod."""
        self._life(namespace, name).set_ready(ready)

    def crash(self, namespace: str, name: str, exit_code: int = 1) -> None:
        """End the pod's containers now. Raises StatusError where there is no such pod."""
        self._life(namespace, name).crash(exit_code)

    def read(self, namespace: str, pod: str, container: str, *, previous: bool) -> bytes:
        """See `davylamp.embedded.store.Logs`."""
        return self._life(namespace, pod).log(container, previous=previous)

    def follow(self, namespace: str, pod: str, container: str, wake: Callable[[], None]) -> Callable[[], None]:
        return lambda: None

    def ended(self, namespace: str, pod: str, container: str) -> bool:
        return True

    def _life(self, namespace: str, name: str) -> _Life:
        found = self._store.get("Pod", namespace, name)
        life = self._lives.get(found["metadata"]["uid"]) if found is not None else None
        if life is None:
            raise status.not_found("", "pods", name)
        return life

    def _see(self, type_: str, new: Object, old: Object | None) -> None:
        uid = new["metadata"]["uid"]
        life = self._lives.get(uid)
        if type_ == "DELETED":
            if life is not None:
                life.forget()
                self._addresses.free(life.address)
                del self._lives[uid]
        elif life is None:
            node = self._network.nodes.get(new["spec"].get("nodeName", ""))
            if node is not None:
                self._lives[uid] = _Life(self._store, new, self._behave(new), self._addresses.take(), node)
        elif "deletionTimestamp" in new["metadata"]:
            life.end()


class _Life:
    """One pod, from its binding to its end."""

    def __init__(self, store: Store, pod: Object, course: Course, address: str, node: str) -> None:
        self.address = address
        self._store = store
        self._clock = store.clock
        self._pod = msgspec.convert(pod, type=Pod, strict=False)
        self._course = course
        self._node = node
        self._started = stamp(self._clock.now())
        waiting = ContainerView(Waiting(reason="ContainerCreating"))
        self._views = {c.name: waiting for c in self._pod.spec.containers}
        self._timers: dict[str, Timer] = {}
        self._ran_since = 0.0
        self._failures = 0
        self._ending = False
        if "deletionTimestamp" in pod["metadata"]:
            self.end()
        elif course.pulled:
            self._later("start", course.start, self._start)
        else:
            self._later("start", course.start, self._fail_to_pull)

    # --- what happens to it ---

    def forget(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def end(self) -> None:
        """Asked to stop: unready at once, gone when it has stopped or its grace is over."""
        if self._ending:
            return
        self._ending = True
        self.forget()
        found = self._current()
        grace = (found["metadata"].get("deletionGracePeriodSeconds") or 0) if found is not None else 0
        self._later("end", min(self._course.end, grace), self._gone)

    def set_ready(self, ready: bool) -> None:
        self._timers.pop("ready", _NO_TIMER).cancel()
        if any(isinstance(view.state, Running) for view in self._views.values()):
            self._show(lambda view: msgspec.structs.replace(view, ready=ready))

    def crash(self, exit_code: int) -> None:
        if not self._ending and any(isinstance(view.state, Running) for view in self._views.values()):
            self._crashed(exit_code)

    def log(self, container: str, *, previous: bool) -> bytes:
        view = self._views[container]
        if isinstance(view.state, Waiting) and view.last is None:
            raise status.bad_request(
                f'container "{container}" in pod "{self._pod.metadata.name}" is waiting to start: {view.state.reason}'
            )
        if previous and view.last is None:
            name = self._pod.metadata.name
            raise status.bad_request(f'previous terminated container "{container}" in pod "{name}" not found')
        at = view.last.started_at if previous and view.last else self._started
        return "".join(f"{at} {line}\n" for line in self._course.log.splitlines()).encode()

    # --- its own course ---

    def _start(self) -> None:
        now = self._clock.now()
        self._ran_since = self._clock.time()
        at_once = self._course.ready is not None and self._course.ready <= 0
        running = Running(started_at=stamp(now))
        self._show(lambda view: ContainerView(running, view.last, at_once, view.restarts))
        if self._course.ready is not None and not at_once:
            self._later("ready", self._course.ready, lambda: self.set_ready(True))
        if self._course.crash is not None:
            self._later("crash", self._course.crash, lambda: self._crashed(self._course.exit_code))

    def _crashed(self, exit_code: int) -> None:
        self.forget()
        now = stamp(self._clock.now())
        if self._clock.time() - self._ran_since > FORGIVEN_AFTER:
            self._failures = 0
        began = next((v.state.started_at for v in self._views.values() if isinstance(v.state, Running)), now)
        end = Terminated(
            exit_code=exit_code,
            reason="Error" if exit_code else "Completed",
            message=self._course.log[-2048:] if exit_code else "",
            started_at=began,
            finished_at=now,
        )
        if not model.should_restart(self._pod.spec.restart_policy, exit_code):
            self._show(lambda view: ContainerView(end, view.last, False, view.restarts))
            return
        delay = min(BACK_OFF_FIRST * 2 ** max(0, self._failures - 1), BACK_OFF_LAST) if self._failures else 0.0
        self._failures += 1
        if delay:
            message = f"back-off {delay:g}s restarting failed container"
            waiting = Waiting(reason="CrashLoopBackOff", message=message)
            self._show(lambda view: ContainerView(waiting, end, False, view.restarts))
        else:
            self._show(lambda view: ContainerView(end, view.last, False, view.restarts))
        self._later("start", max(delay, 0.1), lambda: self._restart(end))

    def _restart(self, end: Terminated) -> None:
        self._views = {
            name: ContainerView(view.state, end, False, view.restarts + 1) for name, view in self._views.items()
        }
        self._start()

    def _fail_to_pull(self) -> None:
        image = self._pod.spec.containers[0].image
        cause = model.pull_problem(image)
        self._show(lambda view: ContainerView(Waiting(reason="ErrImagePull", message=cause)))
        text = f'Back-off pulling image "{image}": ErrImagePull: {cause}'
        backing_off = Waiting(reason="ImagePullBackOff", message=text)
        self._later("start", self._course.pull_back_off, lambda: self._show(lambda view: ContainerView(backing_off)))

    def _gone(self) -> None:
        meta = self._pod.metadata
        try:
            self._store.delete("Pod", meta.namespace, meta.name, uid=meta.uid, grace_seconds=0, user=USER)
        except StatusError as error:
            if error.code not in (404, 409):
                raise

    # --- the status ---

    def _later(self, name: str, seconds: float, callback: Callable[[], None]) -> None:
        self._timers[name] = self._clock.call_later(seconds, callback)

    def _current(self) -> Object | None:
        meta = self._pod.metadata
        found = self._store.get("Pod", meta.namespace, meta.name)
        return found if found is not None and found["metadata"]["uid"] == meta.uid else None

    def _show(self, change: Callable[[ContainerView], ContainerView]) -> None:
        self._views = {name: change(view) for name, view in self._views.items()}
        found = self._current()
        if found is None:
            return
        new = model.status(
            msgspec.convert(found, type=Pod, strict=False),
            self._views,
            address=self.address,
            node_address=self._node,
            started=self._started,
            now=stamp(self._clock.now()),
        )
        # What others say about the pod (a scheduler, a readiness gate) stays.
        ours = {c["type"] for c in new["conditions"]}
        others = [c for c in (found.get("status") or {}).get("conditions") or () if c["type"] not in ours]
        told = _dense({**new, "conditions": [*new["conditions"], *others]})
        self._store.update(
            {**found, "status": {**(found.get("status") or {}), **told}}, subresource="status", user=USER
        )


class _NoTimer:
    def cancel(self) -> None:
        """There is nothing to cancel."""


_NO_TIMER = _NoTimer()


def _dense(value: Any) -> Any:
    """Without what a strategic merge patch would delete: null."""
    if isinstance(value, dict):
        return {
            key: _dense(item) if isinstance(item, dict | list) else item
            for key, item in value.items()
            if item is not None
        }
    return [_dense(item) for item in value] if isinstance(value, list) else value


def _node(name: str, address: str, now: str) -> Object:
    capacity = {"cpu": "10000", "memory": "100000Gi", "pods": "50000"}
    ready = {"type": "Ready", "status": "True", "reason": "Imagined", "lastTransitionTime": now}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}},
        "status": {
            "capacity": capacity,
            "allocatable": capacity,
            "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}],
            "conditions": [{**ready, "lastHeartbeatTime": now}],
        },
    }
