"""What a pod means to the kubelet, and the status that follows from its containers: no I/O, no clock."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

import msgspec


class Base(msgspec.Struct, frozen=True, rename="camel"):
    """The fields that we read; all others are ignored."""


class FieldRef(Base, frozen=True):
    field_path: str = ""


class ValueFrom(Base, frozen=True):
    field_ref: FieldRef | None = None


class EnvVar(Base, frozen=True):
    name: str
    value: str = ""
    value_from: ValueFrom | None = None


class HttpGet(Base, frozen=True):
    port: int | str
    path: str = "/"


class Probe(Base, frozen=True):
    http_get: HttpGet | None = None
    initial_delay_seconds: int = 0
    period_seconds: int = 10
    timeout_seconds: int = 1
    failure_threshold: int = 3
    success_threshold: int = 1


class Port(Base, frozen=True):
    container_port: int
    name: str = ""


class Container(Base, frozen=True):
    name: str
    image: str = ""
    env: tuple[EnvVar, ...] = ()
    ports: tuple[Port, ...] = ()
    readiness_probe: Probe | None = None
    termination_message_policy: str = "File"


class ReadinessGate(Base, frozen=True):
    condition_type: str


class PodSpec(Base, frozen=True):
    node_name: str = ""
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    restart_policy: str = "Always"
    readiness_gates: tuple[ReadinessGate, ...] = ()
    host_network: bool = False


class Condition(Base, frozen=True):
    type: str
    status: str
    last_transition_time: str | None = None


class Terminated(Base, frozen=True):
    exit_code: int
    started_at: str | None = None
    finished_at: str | None = None
    message: str = ""
    reason: str = ""


class Waiting(Base, frozen=True):
    reason: str
    message: str = ""


class Running(Base, frozen=True):
    started_at: str


class OldState(Base, frozen=True):
    running: Running | None = None
    terminated: Terminated | None = None


class OldContainerStatus(Base, frozen=True):
    """A container's status as an earlier run of this kubelet left it."""

    name: str
    restart_count: int = 0
    state: OldState = OldState()
    last_state: OldState = OldState()


class PodStatus(Base, frozen=True):
    phase: str = "Pending"
    pod_ip: str = msgspec.field(default="", name="podIP")
    start_time: str | None = None
    conditions: tuple[Condition, ...] = ()
    container_statuses: tuple[OldContainerStatus, ...] = ()


class Meta(Base, frozen=True):
    name: str
    uid: str
    namespace: str = ""
    resource_version: str = ""
    generation: int = 0
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: int | None = None


class Pod(Base, frozen=True):
    metadata: Meta
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    def __str__(self) -> str:
        return f"{self.metadata.namespace}/{self.metadata.name}"


class ContainerView(Base, frozen=True):
    """A container as its supervisor sees it now."""

    state: Waiting | Running | Terminated
    last: Terminated | None = None
    ready: bool = False
    restarts: int = 0


PORTS = "davylamp.dev/ports"
"""The annotation of a pod that shares its address: where its container ports really are, as JSON."""
Behaviour = Literal["hellok8s", "pause", "absent"]


def behaviour(image: str) -> Behaviour:
    """What the lab does for an image, by its name's last part: registry.example/hellok8s:v2 is hellok8s."""
    name = image.partition("@")[0].rpartition("/")[2].partition(":")[0]
    if name == "hellok8s":
        return "hellok8s"
    return "pause" if name.startswith("pause") else "absent"


def tag(image: str) -> str:
    """`v2` of `hellok8s:v2`; `latest` if there is none."""
    return image.partition("@")[0].rpartition("/")[2].partition(":")[2] or "latest"


FAULTS = {
    "crash": {"CRASH": "1"},
    "unready": {"UNREADY": "1"},
    "errors": {"ERROR_RATE": "0.2"},
    "slow": {"LATENCY_MS": "500", "LATENCY_JITTER_MS": "100"},
}
"""What the end of a tag makes of hellok8s: `kubectl set image deployment/web web=hellok8s:v3-crash` goes wrong."""


def faults(image: str) -> dict[str, str]:
    return FAULTS.get(tag(image).rpartition("-")[2], {})


def pull_problem(image: str) -> str:
    """Why an image that nobody has can't be pulled, as containerd says it."""
    full = image if "/" in image else f"docker.io/library/{image}"
    if ":" not in full.rpartition("/")[2]:
        full += ":latest"
    return (
        f'failed to pull and unpack image "{full}": failed to resolve reference "{full}": '
        "pull access denied, repository does not exist or may require authorization"
    )


def restart_delay(restarts: int, cap: float) -> float:
    """Seconds before restart number ``restarts`` + 1: 0, then 1, 2, 4, 8, ... up to ``cap``.

    A real kubelet has 0, 10, 20, 40, ... up to 300 s; tests have no time for that.
    """
    return 0.0 if restarts == 0 else min(cap, 2.0 ** min(restarts - 1, 30))


def probe_period(probe: Probe) -> float:
    """Seconds between two probes.

    The API server writes 10 where a manifest says nothing, so 10 is taken for "not given", which is 1 s here.
    """
    return 1.0 if probe.period_seconds == 10 else float(probe.period_seconds)


def probe_port(container: Container, port: int | str) -> int | None:
    """A port's number; a name is looked up in the container's ports. None if there is no such name."""
    if isinstance(port, int) or port.isdigit():
        return int(port)
    return {p.name: p.container_port for p in container.ports}.get(port)


def environment(pod: Pod, container: Container, address: str) -> dict[str, str]:
    """A container's variables: ours first, then the pod's own over them."""
    known = {
        "metadata.name": pod.metadata.name,
        "metadata.namespace": pod.metadata.namespace,
        "metadata.uid": pod.metadata.uid,
        "spec.nodeName": pod.spec.node_name,
        "status.podIP": address,
        "status.podIPs": address,
    }
    env = {
        "POD_NAME": pod.metadata.name,
        "POD_NAMESPACE": pod.metadata.namespace,
        "POD_IP": address,
        "VERSION": tag(container.image),
        **faults(container.image),
    }
    for variable in container.env:
        reference = variable.value_from and variable.value_from.field_ref
        env[variable.name] = known.get(reference.field_path, "") if reference else variable.value
    return env


def initial_view(pod: Pod, container: Container, now: str) -> ContainerView:
    """Waiting; after a restart of the kubelet, with what the pod's status says of the container's past."""
    for old in pod.status.container_statuses:
        if old.name == container.name:
            if old.state.running:
                # A real kubelet finds its containers alive; ours died with it, and this counts as a restart.
                end = Terminated(
                    exit_code=137,
                    reason="Error",
                    message="the kubelet was restarted",
                    started_at=old.state.running.started_at,
                    finished_at=now,
                )
                pause = behaviour(container.image) == "pause"
                restarts = old.restart_count if pause else old.restart_count + 1
                return ContainerView(
                    state=Waiting(reason="ContainerCreating"),
                    last=old.last_state.terminated if pause else end,
                    restarts=restarts,
                )
            last = old.state.terminated or old.last_state.terminated
            return ContainerView(
                state=Waiting(reason="ContainerCreating"),
                last=last,
                restarts=old.restart_count + (last is not None),
            )
    return ContainerView(state=Waiting(reason="ContainerCreating"))


def should_restart(policy: str, exit_code: int) -> bool:
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


def phase(views: dict[str, ContainerView], policy: str) -> str:
    """Pending until every container has run once; Succeeded or Failed when none will run again."""
    if not views:
        return "Pending"
    ends = [v.state for v in views.values() if isinstance(v.state, Terminated)]
    if len(ends) == len(views) and not any(should_restart(policy, end.exit_code) for end in ends):
        return "Failed" if any(end.exit_code for end in ends) else "Succeeded"
    started = all(not isinstance(v.state, Waiting) or v.last is not None for v in views.values())
    return "Running" if started else "Pending"


def status(
    pod: Pod, views: dict[str, ContainerView], *, address: str, node_address: str, started: str, now: str
) -> dict[str, Any]:
    """The status to write, for a strategic merge patch. A condition's time stays while its status does."""
    unready = [name for name, view in views.items() if not view.ready]
    given = {c.type: c.status for c in pod.status.conditions}
    gates = [g.condition_type for g in pod.spec.readiness_gates if given.get(g.condition_type) != "True"]
    overall = phase(views, pod.spec.restart_policy)
    over = overall in ("Succeeded", "Failed")
    lacking = ("PodCompleted", "") if overall == "Succeeded" else ("", "")
    if unready and not lacking[0]:
        lacking = ("ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]")
    conditions = [
        ("PodReadyToStartContainers", not over, ("", "")),
        ("Initialized", True, ("", "")),
        ("ContainersReady", not unready, lacking),
        (
            "Ready",
            not unready and not gates,
            lacking if unready else ("ReadinessGatesNotReady", f"gates not ready: {gates}"),
        ),
        ("PodScheduled", True, ("", "")),
    ]
    before = {c.type: c for c in pod.status.conditions}
    return {
        "phase": overall,
        "podIP": address,
        "podIPs": [{"ip": address}],
        "hostIP": node_address,
        "hostIPs": [{"ip": node_address}],
        "startTime": started,
        "observedGeneration": pod.metadata.generation or None,
        "conditions": [_condition(before, now, *condition) for condition in conditions],
        "containerStatuses": [
            _container_status(pod, container, views[container.name])
            for container in pod.spec.containers
            if container.name in views
        ],
        "initContainerStatuses": [_init_status(container, started) for container in pod.spec.init_containers],
    }


def _condition(before: dict[str, Condition], now: str, kind: str, holds: bool, why: tuple[str, str]) -> dict[str, Any]:
    value = "True" if holds else "False"
    old = before.get(kind)
    since = old.last_transition_time if old and old.status == value and old.last_transition_time else now
    # null removes a reason that an earlier status gave
    reason, message = (None, None) if holds else (why[0] or None, why[1] or None)
    return {"type": kind, "status": value, "lastTransitionTime": since, "reason": reason, "message": message}


def _container_status(pod: Pod, container: Container, view: ContainerView) -> dict[str, Any]:
    ran = not isinstance(view.state, Waiting) or view.last is not None
    return {
        "name": container.name,
        "image": container.image,
        "imageID": f"davylamp://{container.image}" if ran else "",
        "containerID": f"davylamp://{pod.metadata.uid}/{container.name}/{view.restarts}" if ran else "",
        "ready": view.ready,
        "started": isinstance(view.state, Running),
        "restartCount": view.restarts,
        "state": _state(view.state),
        "lastState": _state(view.last) if view.last else {},
    }


def _init_status(container: Container, started: str) -> dict[str, Any]:
    """Init containers are not run: each is said to have succeeded."""
    end = Terminated(exit_code=0, reason="Completed", started_at=started, finished_at=started)
    return {
        "name": container.name,
        "image": container.image,
        "imageID": "",
        "ready": True,
        "restartCount": 0,
        "state": _state(end),
        "lastState": {},
    }


def _state(state: Waiting | Running | Terminated) -> dict[str, Any]:
    kind = {Waiting: "waiting", Running: "running", Terminated: "terminated"}[type(state)]
    return {kind: msgspec.to_builtins(state)}


def rfc3339(moment: datetime) -> str:
    """Whole seconds, as metav1.Time wants them."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
