"""The first verdict: whether the canary's pods can live at all, in the containers' own words."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import msgspec

from davylamp.api.objects import ContainerStatus, Pod, ReplicaSet
from davylamp.api.units import readable
from davylamp.core.decision import LogWanted

HOPELESS = {
    "CrashLoopBackOff",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
}
"""Reasons of a waiting container that don't go away by waiting. (ErrImagePull may: the kubelet tries again, and
reports ImagePullBackOff when that fails too.)"""

UNREADY = timedelta(seconds=10)
"""How long all pods of a canary that served may be unready at once before it counts as failed."""


class Illness(msgspec.Struct, frozen=True):
    """Why a canary can't live. `log` is the container whose last line would tell more, where it isn't known yet."""

    reason: str
    message: str
    log: LogWanted | None = None


def diagnose(
    pods: tuple[Pod, ...],
    replica_set: ReplicaSet | None,
    *,
    deadline: timedelta,
    served: bool,
    logs: Mapping[str, str],
    now: datetime,
) -> Illness | datetime | None:
    """What is wrong with the canary's pods; or when something will be if they stay as they are; or None.

    `deadline` is how long a pod may take to become ready, `served` whether the canary has served traffic.
    """
    for pod in pods:
        for status in (*pod.status.init_container_statuses, *pod.status.container_statuses):
            illness = _container(pod, status, logs)
            if illness is not None:
                return illness
    unready = [pod for pod in pods if not pod.ready]
    due = {pod.metadata.name: _unready_since(pod) + deadline for pod in unready}
    for pod in unready:
        if due[pod.metadata.name] <= now:
            text = f"pod {pod.metadata.name} is not ready after {readable(deadline.total_seconds())}{_why(pod)}"
            return Illness("NotReady", text)
    moments = list(due.values())
    if served and pods and len(unready) == len(pods):
        since = max(_unready_since(pod) for pod in pods)
        if since + UNREADY <= now:
            return Illness("NoneReady", f"none of the {len(pods)} canary pods is ready any more{_why(pods[0])}")
        moments.append(since + UNREADY)
    if not pods and replica_set is not None:
        return _refused(replica_set, deadline, now)
    return min(moments, default=None)


def _container(pod: Pod, status: ContainerStatus, logs: Mapping[str, str]) -> Illness | None:
    waiting = status.state.waiting
    if waiting is None or waiting.reason not in HOPELESS:
        return None
    where = f"container {status.name} of pod {pod.metadata.name}"
    if waiting.reason != "CrashLoopBackOff":
        detail = f": {waiting.message}" if waiting.message else ""
        return Illness(waiting.reason, f"{where} can't start, {waiting.reason}{detail}")
    last = status.last_state.terminated
    exit_code = f" with exit code {last.exit_code}" if last else ""
    times = "once" if status.restart_count == 1 else f"{status.restart_count} times"
    line = _last_line(last.message if last else "") or _last_line(logs.get(pod.metadata.name, ""))
    said = f'; its last words: "{line}"' if line else ""
    wanted = not line and pod.metadata.name not in logs
    return Illness(
        "CrashLoopBackOff",
        f"{where} crashed{exit_code} and was restarted {times}{said}",
        LogWanted(pod.metadata.name, status.name, previous=True) if wanted else None,
    )


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def _unready_since(pod: Pod) -> datetime:
    """When this pod was made, or lost its readiness."""
    changed = [c.last_transition_time for c in pod.status.conditions if c.type == "Ready"]
    times = [at for at in (pod.metadata.creation_timestamp, *changed) if at is not None]
    return max(times)


def _why(pod: Pod) -> str:
    for condition in pod.status.conditions:
        if condition.type in ("PodScheduled", "Ready") and condition.status == "False" and condition.message:
            return f": {condition.message}"
    return ""


def _refused(replica_set: ReplicaSet, deadline: timedelta, now: datetime) -> Illness | datetime | None:
    """A canary whose pods the API server refuses (quota, admission): ReplicaFailure tells why."""
    for condition in replica_set.status.conditions:
        if condition.type == "ReplicaFailure" and condition.status == "True":
            since = condition.last_transition_time or replica_set.metadata.creation_timestamp
            if since is None:
                return None
            if since + deadline <= now:
                return Illness("NoPods", f"the canary's pods can't be created: {condition.message}")
            return since + deadline
    return None
