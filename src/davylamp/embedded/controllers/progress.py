"""The status of a Deployment: counts, conditions, the progress deadline.

After pkg/controller/deployment/{sync,progress}.go and util/deployment_util.go of Kubernetes 1.37.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from davylamp.embedded.controllers.objects import Object, parse_time, total
from davylamp.embedded.controllers.scaling import asked, max_unavailable, replicas
from davylamp.embedded.writing import stamp

NO_DEADLINE = 2**31 - 1

Conditions = list[Object]


def made(type_: str, status: str, reason: str, message: str, now: datetime) -> Object:
    at = stamp(now)
    times = {"lastUpdateTime": at, "lastTransitionTime": at}
    return {"type": type_, "status": status, **times, "reason": reason, "message": message}


def found(conditions: Conditions, type_: str) -> Object | None:
    return next((c for c in conditions if c["type"] == type_), None)


def put(conditions: Conditions, new: Object) -> Conditions:
    """With `new`, unless there is one of its status and reason; the transition's time stays while the status does."""
    old = found(conditions, new["type"])
    if old is not None and old["status"] == new["status"]:
        if old["reason"] == new["reason"]:
            return conditions
        new = {**new, "lastTransitionTime": old["lastTransitionTime"]}
    return [*without(conditions, new["type"]), new]


def without(conditions: Conditions, type_: str) -> Conditions:
    return [c for c in conditions if c["type"] != type_]


def deadline(deployment: Object) -> int | None:
    """Seconds; None where there is none."""
    seconds = deployment["spec"].get("progressDeadlineSeconds", 600)
    return None if seconds is None or seconds == NO_DEADLINE else int(seconds)


def paused_conditions(deployment: Object, conditions: Conditions, now: datetime) -> Conditions:
    """So that a pause doesn't count as a lack of progress (checkPausedConditions)."""
    progressing = found(conditions, "Progressing")
    reason = progressing["reason"] if progressing else ""
    paused = bool(deployment["spec"].get("paused"))
    if deadline(deployment) is None or reason == "ProgressDeadlineExceeded":
        return conditions
    if paused and reason != "DeploymentPaused":
        return put(conditions, made("Progressing", "Unknown", "DeploymentPaused", "Deployment is paused", now))
    if not paused and reason == "DeploymentPaused":
        return put(conditions, made("Progressing", "Unknown", "DeploymentResumed", "Deployment is resumed", now))
    return conditions


def counted(
    deployment: Object,
    conditions: Conditions,
    new: Object | None,
    all_sets: Sequence[Object],
    collisions: int | None,
    now: datetime,
) -> Object:
    """The status that the ReplicaSets add up to (calculateStatus), with the condition Available."""
    available = total(all_sets, "availableReplicas")
    counts = {
        "observedGeneration": deployment["metadata"].get("generation", 0),
        "replicas": total(all_sets, "replicas"),
        "updatedReplicas": total([new], "replicas") if new is not None else 0,
        "readyReplicas": total(all_sets, "readyReplicas"),
        "availableReplicas": available,
        "unavailableReplicas": max(0, asked(all_sets) - available),
    }
    status: Object = {key: count for key, count in counts.items() if count}
    if all("terminatingReplicas" in s or not s.get("observedGeneration") for s in _statuses(all_sets)):
        status["terminatingReplicas"] = total(all_sets, "terminatingReplicas")
    if collisions is not None:
        status["collisionCount"] = collisions
    if available >= replicas(deployment) - max_unavailable(deployment):
        message = "Deployment has minimum availability."
        is_available = made("Available", "True", "MinimumReplicasAvailable", message, now)
    else:
        message = "Deployment does not have minimum availability."
        is_available = made("Available", "False", "MinimumReplicasUnavailable", message, now)
    status["conditions"] = put(conditions, is_available)
    return status


def _statuses(replica_sets: Sequence[Object]) -> list[Object]:
    return [rs.get("status") or {} for rs in replica_sets]


def progressed(
    deployment: Object, status: Object, new: Object | None, all_sets: Sequence[Object], now: datetime
) -> Object:
    """`status` with what it says of progress since the one that `deployment` has (syncRolloutStatus)."""
    conditions: Conditions = status["conditions"]
    current = found(conditions, "Progressing")
    if deadline(deployment) is None:
        conditions = without(conditions, "Progressing")
    elif not (
        status.get("replicas", 0) == status.get("updatedReplicas", 0)
        and current is not None
        and current["reason"] == "NewReplicaSetAvailable"
    ):
        conditions = _progress(deployment, status, conditions, current, new, now)
    failure = _failure(new, all_sets)
    conditions = put(conditions, failure) if failure else without(conditions, "ReplicaFailure")
    return {**status, "conditions": conditions}


def _progress(
    deployment: Object,
    status: Object,
    conditions: Conditions,
    current: Object | None,
    new: Object | None,
    now: datetime,
) -> Conditions:
    who = f'ReplicaSet "{new["metadata"]["name"]}"' if new else f'Deployment "{deployment["metadata"]["name"]}"'
    if is_complete(deployment, status):
        text = f"{who} has successfully progressed."
        return put(conditions, made("Progressing", "True", "NewReplicaSetAvailable", text, now))
    if _got_on(deployment.get("status") or {}, status):
        # Even with the same reason, so that the time of the last progress is told.
        condition = made("Progressing", "True", "ReplicaSetUpdated", f"{who} is progressing.", now)
        if current is not None and current["status"] == "True":
            condition["lastTransitionTime"] = current["lastTransitionTime"]
        return [*without(conditions, "Progressing"), condition]
    if _timed_out(deployment, current, now):
        text = f"{who} has timed out progressing."
        return put(conditions, made("Progressing", "False", "ProgressDeadlineExceeded", text, now))
    return conditions


def is_complete(deployment: Object, status: Object) -> bool:
    """All desired pods are updated and available, and no others are left (DeploymentComplete)."""
    desired = replicas(deployment)
    counts = [status.get(key, 0) for key in ("updatedReplicas", "replicas", "availableReplicas")]
    seen = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    return counts == [desired] * 3 and seen


def _got_on(before: Object, after: Object) -> bool:
    def old_pods(status: Object) -> int:
        return int(status.get("replicas", 0) - status.get("updatedReplicas", 0))

    more = any(
        after.get(key, 0) > before.get(key, 0) for key in ("updatedReplicas", "readyReplicas", "availableReplicas")
    )
    return more or old_pods(after) < old_pods(before)


def _timed_out(deployment: Object, current: Object | None, now: datetime) -> bool:
    if current is None or current["reason"] == "NewReplicaSetAvailable":
        return False
    left = seconds_left(deployment, current, now)
    return current["reason"] == "ProgressDeadlineExceeded" or (left is not None and left < 0)


def seconds_left(deployment: Object, current: Object, now: datetime) -> float | None:
    """Seconds of the progress deadline that are left since the last progress."""
    limit, since = deadline(deployment), parse_time(current.get("lastUpdateTime"))
    return None if limit is None or since is None else limit - (now - since).total_seconds()


def look_again(deployment: Object, status: Object, now: datetime) -> float | None:
    """Seconds until the deadline has to be looked at, or None (requeueStuckDeployment)."""
    current = found(status["conditions"], "Progressing")
    if current is None or is_complete(deployment, status) or current["reason"] == "ProgressDeadlineExceeded":
        return None
    left = seconds_left(deployment, current, now)
    return None if left is None else max(left, 0) + 1


def _failure(new: Object | None, all_sets: Sequence[Object]) -> Object | None:
    for rs in [*([new] if new else []), *all_sets]:
        for condition in (rs.get("status") or {}).get("conditions") or ():
            if condition["type"] == "ReplicaFailure":
                return {**condition, "lastUpdateTime": condition["lastTransitionTime"]}
    return None
