"""How large each ReplicaSet of a Deployment should be: numbers only.

After pkg/controller/deployment/{rolling,sync}.go and util/deployment_util.go of Kubernetes 1.37.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from davylamp.embedded.controllers.objects import Object, age_key, annotations_of, scaled, total

DESIRED = "deployment.kubernetes.io/desired-replicas"
MAX = "deployment.kubernetes.io/max-replicas"

Sizes = dict[str, int]
"""New sizes by the name of the ReplicaSet; one that isn't in it stays as it is."""


def replicas(obj: Object) -> int:
    """What the spec of a Deployment or ReplicaSet asks for."""
    return int(obj["spec"].get("replicas", 1))


def asked(replica_sets: Sequence[Object]) -> int:
    return sum(map(replicas, replica_sets))


def active(replica_sets: Sequence[Object]) -> list[Object]:
    return [rs for rs in replica_sets if replicas(rs) > 0]


def is_rolling(deployment: Object) -> bool:
    return bool((deployment["spec"].get("strategy") or {}).get("type", "RollingUpdate") == "RollingUpdate")


def _fences(deployment: Object) -> tuple[int, int]:
    """maxSurge (rounded up) and maxUnavailable (rounded down) as numbers of pods; both 0 would never get anywhere."""
    rolling = (deployment["spec"].get("strategy") or {}).get("rollingUpdate") or {}
    desired = replicas(deployment)
    surge = scaled(rolling.get("maxSurge", "25%"), desired, up=True)
    unavailable = scaled(rolling.get("maxUnavailable", "25%"), desired, up=False)
    return surge, (unavailable or 1) if surge == 0 else unavailable


def max_surge(deployment: Object) -> int:
    return _fences(deployment)[0] if is_rolling(deployment) else 0


def max_unavailable(deployment: Object) -> int:
    desired = replicas(deployment)
    if not is_rolling(deployment) or desired == 0:
        return 0
    return min(_fences(deployment)[1], desired)


def size_of_new(deployment: Object, all_sets: Sequence[Object], now: int) -> int:
    """How far the newest ReplicaSet, of size `now`, may grow (NewRSNewReplicas). `all_sets` include it."""
    desired = replicas(deployment)
    if not is_rolling(deployment):
        return desired
    room = desired + max_surge(deployment) - asked(all_sets)
    return now if room <= 0 else now + min(room, desired - now)


def sizes_of_old(deployment: Object, new: Object, old: Sequence[Object]) -> Sizes:
    """How far older ReplicaSets may shrink now: unhealthy pods first, then as many as availability allows
    (reconcileOldReplicaSets)."""
    least = replicas(deployment) - max_unavailable(deployment)
    lacking = replicas(new) - total([new], "availableReplicas")
    budget = asked(old) + replicas(new) - least - lacking
    if not asked(old) or budget <= 0:
        return {}
    by_age = sorted(active(old), key=age_key)
    sizes = {rs["metadata"]["name"]: replicas(rs) for rs in by_age}
    for rs in by_age:
        name = rs["metadata"]["name"]
        unhealthy = min(budget, max(0, sizes[name] - total([rs], "availableReplicas")))
        sizes[name] -= unhealthy
        budget -= unhealthy
    surplus = total([*old, new], "availableReplicas") - least
    for rs in by_age:
        name = rs["metadata"]["name"]
        gone = min(sizes[name], max(0, surplus))
        sizes[name] -= gone
        surplus -= gone
    return {rs["metadata"]["name"]: n for rs in by_age if (n := sizes[rs["metadata"]["name"]]) != replicas(rs)}


def is_saturated(deployment: Object, new: Object | None) -> bool:
    """Can `new` carry the whole Deployment, and do both think so (its annotation)?"""
    if new is None:
        return False
    desired = replicas(deployment)
    return (
        replicas(new) == desired
        and annotations_of(new).get(DESIRED) == str(desired)
        and total([new], "availableReplicas") == desired
    )


def only_active_or_latest(new: Object | None, old: Sequence[Object]) -> Object | None:
    """The one ReplicaSet that takes all of a change of scale; None where several have pods (FindActiveOrLatest)."""
    with_pods = active([*old, new] if new is not None else old)
    if with_pods:
        return with_pods[0] if len(with_pods) == 1 else None
    return new if new is not None else max(old, key=age_key, default=None)


def proportional(deployment: Object, with_pods: Sequence[Object]) -> Sizes:
    """All ReplicaSets in their proportions, when a Deployment is scaled with several that have pods (scale)."""
    desired = replicas(deployment)
    allowed = desired + max_surge(deployment) if desired > 0 else 0
    change = allowed - asked(with_pods)
    by_age = sorted(with_pods, key=age_key, reverse=change > 0)
    largest_first = sorted(by_age, key=replicas, reverse=True)
    sizes: Sizes = {}
    done = 0
    for rs in largest_first:
        part = _proportion(deployment, rs, change, done)
        sizes[rs["metadata"]["name"]] = replicas(rs) + part
        done += part
    if change and largest_first:
        name = largest_first[0]["metadata"]["name"]
        sizes[name] = max(0, sizes[name] + change - done)
    return sizes


def _proportion(deployment: Object, rs: Object, change: int, done: int) -> int:
    """GetReplicaSetProportion: this one's part of `change`, of which `done` is given out already."""
    if change in (0, done):
        return 0
    left = change - done
    fraction = _fraction(deployment, rs)
    return min(fraction, left) if change > 0 else max(fraction, left)


def _fraction(deployment: Object, rs: Object) -> int:
    desired, size = replicas(deployment), replicas(rs)
    if desired == 0:
        return -size
    before = annotations_of(rs).get(MAX, "")
    base = (int(before) if before.isdecimal() else 0) or total([deployment], "replicas")
    if base == 0:
        return 0
    return math.floor(size * (desired + max_surge(deployment)) / base + 0.5) - size
