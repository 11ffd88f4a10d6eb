"""A pod in one line, as `kubectl get pods` would put it."""

from __future__ import annotations

from datetime import datetime

import msgspec

from davylamp.api.objects import ContainerStatus, Pod, Terminated


class PodView(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    ready: bool
    restarts: int
    state: str
    """`Running`, `Pending`, `Terminating`, or the reason why a container doesn't run (`CrashLoopBackOff`)."""
    message: str
    """The reason in the cluster's own words, where there is one."""
    since: datetime | None
    """When the pod was made."""


def of(pods: tuple[Pod, ...]) -> tuple[PodView, ...]:
    """The pods, by name."""
    return tuple(_pod(pod) for pod in sorted(pods, key=lambda pod: pod.metadata.name))


def _pod(pod: Pod) -> PodView:
    containers = (*pod.status.init_container_statuses, *pod.status.container_statuses)
    state, message = _state(pod)
    return PodView(
        name=pod.metadata.name,
        ready=pod.ready and pod.metadata.deletion_timestamp is None,
        restarts=sum(container.restart_count for container in containers),
        state=state,
        message=message,
        since=pod.metadata.creation_timestamp,
    )


def _state(pod: Pod) -> tuple[str, str]:
    """The same order of precedence as kubectl's STATUS column (printPod in k8s.io/kubernetes/pkg/printers)."""
    status = pod.status
    if pod.metadata.deletion_timestamp is not None:
        return "Terminating", ""
    for container in status.init_container_statuses:
        if container.state.waiting is not None or _failed(container):
            reason, message = _container(container)
            if reason not in ("", "PodInitializing"):
                return f"Init:{reason}", message
    for container in status.container_statuses:
        reason, message = _container(container)
        if reason:
            return reason, message
    scheduled = next((c for c in status.conditions if c.type == "PodScheduled" and c.status == "False"), None)
    if scheduled is not None:
        return status.reason or status.phase, scheduled.message
    return status.reason or status.phase, status.message


def _failed(container: ContainerStatus) -> bool:
    terminated = container.state.terminated
    return terminated is not None and terminated.exit_code != 0


def _container(container: ContainerStatus) -> tuple[str, str]:
    waiting, terminated = container.state.waiting, container.state.terminated
    if waiting is not None and waiting.reason == "CrashLoopBackOff":
        # The message only tells of the pause; how the container ended is what one wants to know.
        return waiting.reason, _how_it_ended(container.last_state.terminated)
    if waiting is not None:
        return waiting.reason or "Waiting", waiting.message
    if terminated is not None:
        return terminated.reason or f"ExitCode:{terminated.exit_code}", terminated.message
    return "", ""


def _how_it_ended(terminated: Terminated | None) -> str:
    if terminated is None:
        return ""
    code = f"exit code {terminated.exit_code}"
    return code if terminated.reason in ("", "Error", "Completed") else f"{terminated.reason}, {code}"
