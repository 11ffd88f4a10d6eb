"""Deployments: which ReplicaSets there are, how large they are, and what the Deployment says of them.

After pkg/controller/deployment of Kubernetes 1.37. What that writes in several small steps within one pass is put
together here in a draft, and written once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from davylamp.api.objects import HASH_LABEL, REVISION
from davylamp.embedded.controllers import progress, scaling
from davylamp.embedded.controllers.claims import claim
from davylamp.embedded.controllers.objects import (
    Object,
    age_key,
    annotations_of,
    controller_reference,
    deleted,
    is_over,
    same_template,
    template_name,
    with_meta,
)
from davylamp.embedded.controllers.scaling import DESIRED, MAX, replicas
from davylamp.embedded.controllers.writes import NOTHING, Create, Plan, Remove, Tell, Update, Write

COMPONENT = "deployment-controller"
HISTORY = "deployment.kubernetes.io/revision-history"
HISTORY_CHARACTERS = 2000
NO_LIMIT = 2**31 - 1
_NOT_COPIED = (
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    HISTORY,
    DESIRED,
    MAX,
    "deprecated.deployment.rollback.to",
)


Find = Callable[[str], Object | None]
PodsOf = Callable[[Object], Sequence[Object]]


class Draft:
    """One pass over a Deployment: what is read, and what will be written."""

    def __init__(self, deployment: Object, own: Sequence[Object], now: datetime) -> None:
        self.deployment = deployment
        self.now = now
        self.before = {rs["metadata"]["name"]: rs for rs in own}
        self.after = dict(self.before)
        self.status: Object = deployment.get("status") or {}
        self.conditions: progress.Conditions = self.status.get("conditions") or []
        self.collisions: int | None = self.status.get("collisionCount")
        self.revision = annotations_of(deployment).get(REVISION)
        self.removed: list[Object] = []
        self.events: list[Tell] = []
        match = next((rs for rs in sorted(own, key=age_key) if _is_template_of(deployment, rs)), None)
        self._new = match["metadata"]["name"] if match is not None else None

    @property
    def new(self) -> Object | None:
        """The ReplicaSet of the Deployment's template; the oldest, if there are several (FindNewReplicaSet)."""
        return self.after[self._new] if self._new is not None else None

    @property
    def old(self) -> list[Object]:
        return [rs for name, rs in self.after.items() if name != self._new]

    @property
    def all(self) -> list[Object]:
        return list(self.after.values())

    def add(self, rs: Object) -> None:
        self._new = rs["metadata"]["name"]
        self.after[self._new] = rs

    def change(self, rs: Object) -> None:
        self.after[rs["metadata"]["name"]] = rs

    def tell(self, reason: str, message: str) -> None:
        self.events.append(Tell(self.deployment, reason, message, COMPONENT))

    def scale(self, name: str, size: int, *, annotate: bool = False) -> bool:
        """Has the size changed? With `annotate`, the annotations follow though the size doesn't (scaleReplicaSet)."""
        rs = self.after[name]
        was = replicas(rs)
        if was == size and not annotate:
            return False
        self.change(_sized(self.deployment, rs, size))
        if was == size:
            return False
        direction = "up" if was < size else "down"
        self.tell("ScalingReplicaSet", f"Scaled {direction} replica set {name} from {was} to {size}")
        return True

    def writes(self, status: Object) -> list[Write]:
        result: list[Write] = [Create(rs) for name, rs in self.after.items() if name not in self.before]
        result += [Update(rs) for name, rs in self.after.items() if rs is not self.before.get(name, rs)]
        result += [Remove(rs) for rs in self.removed]
        result += self.events
        if self.revision is not None and self.revision != annotations_of(self.deployment).get(REVISION):
            said = annotations_of(self.deployment) | {REVISION: self.revision}
            result.append(Update(with_meta(self.deployment, annotations=said)))
        if status != self.status:
            result.append(Update({**self.deployment, "status": status}, "status"))
        return result


def plan(
    deployment: Object,
    candidates: Sequence[Object],
    pods_of: PodsOf,
    named: Find,
    now: datetime,
) -> Plan:
    """What to do about one Deployment.

    `candidates` are the ReplicaSets of its namespace that it controls or nobody does, `pods_of` gives the pods that a
    ReplicaSet controls, `named` finds any ReplicaSet of the namespace by its name.
    """
    selector = deployment["spec"].get("selector")
    if not (selector or {}).get("matchLabels") and not (selector or {}).get("matchExpressions"):
        return NOTHING
    own, claims = claim(deployment, selector, candidates)
    draft = Draft(deployment, own, now)
    if claims:
        return Plan(claims)  # They come back as changes; then all is known anew.
    if deleted(deployment):
        _sync_revision(draft)
        return Plan(draft.writes(_counted(draft)))
    draft.conditions = progress.paused_conditions(deployment, draft.conditions, now)
    _sync_revision(draft)
    if deployment["spec"].get("paused"):
        _scale(draft)
        _clean_up(draft)
        return Plan(draft.writes(_counted(draft)))
    if _is_scaling_event(draft):
        _scale(draft)
        return Plan(draft.writes(_counted(draft)))
    if not scaling.is_rolling(deployment):
        return _recreate(draft, pods_of, named)
    return _roll(draft, named)


def _roll(draft: Draft, find: Find) -> Plan:
    """rolloutRolling."""
    _ensure_new(draft, find)
    new = draft.new
    if new is None:
        return _finish(draft)
    name, desired = new["metadata"]["name"], replicas(draft.deployment)
    if replicas(new) > desired:
        size = desired
    else:
        size = scaling.size_of_new(draft.deployment, draft.all, replicas(new))
    if draft.scale(name, size):
        return _finish(draft)
    smaller = scaling.sizes_of_old(draft.deployment, new, draft.old)
    for old, size in smaller.items():
        draft.scale(old, size)
    if not smaller and progress.is_complete(draft.deployment, draft.status):
        _clean_up(draft)
    return _finish(draft)


def _recreate(draft: Draft, pods_of: PodsOf, find: Find) -> Plan:
    """rolloutRecreate: nothing new before all of the old is gone."""
    for rs in scaling.active(draft.old):
        draft.scale(rs["metadata"]["name"], 0)
    if draft.events:
        return _finish(draft)
    if any((rs.get("status") or {}).get("replicas") or not all(map(is_over, pods_of(rs))) for rs in draft.old):
        return _finish(draft)
    _ensure_new(draft, find)
    new = draft.new
    if new is not None:
        draft.scale(new["metadata"]["name"], replicas(draft.deployment))
        if progress.is_complete(draft.deployment, draft.status):
            _clean_up(draft)
    return _finish(draft)


def _finish(draft: Draft) -> Plan:
    status = progress.progressed(draft.deployment, _counted(draft), draft.new, draft.all, draft.now)
    return Plan(draft.writes(status), progress.look_again(draft.deployment, status, draft.now))


def _counted(draft: Draft) -> Object:
    return progress.counted(draft.deployment, draft.conditions, draft.new, draft.all, draft.collisions, draft.now)


# --- revisions and the new ReplicaSet ---


def _sync_revision(draft: Draft) -> None:
    """The newest ReplicaSet has the highest revision and the Deployment's annotations; the Deployment says the same
    revision (getNewReplicaSet, SetNewReplicaSetAnnotations)."""
    new = draft.new
    if new is None:
        return
    changed = _annotated(draft.deployment, new, _next_revision(draft.old))
    ready_after = draft.deployment["spec"].get("minReadySeconds", 0)
    if new["spec"].get("minReadySeconds", 0) != ready_after:
        changed = {**changed, "spec": {**changed["spec"], "minReadySeconds": ready_after}}
    if changed is not new:
        draft.change(changed)
    draft.revision = annotations_of(changed).get(REVISION)
    if progress.deadline(draft.deployment) is not None and progress.found(draft.conditions, "Progressing") is None:
        text = f'Found new replica set "{new["metadata"]["name"]}"'
        condition = progress.made("Progressing", "True", "FoundNewReplicaSet", text, draft.now)
        draft.conditions = progress.put(draft.conditions, condition)


def _next_revision(old: Sequence[Object]) -> int:
    return max((_revision(rs) for rs in old), default=0) + 1


def _revision(rs: Object) -> int:
    text = annotations_of(rs).get(REVISION, "")
    return int(text) if text.isdecimal() else 0


def _annotated(deployment: Object, rs: Object, revision: int) -> Object:
    """`rs` with the Deployment's annotations and at least this revision; the same object where nothing is new."""
    given = annotations_of(rs)
    wanted = given | {k: v for k, v in annotations_of(deployment).items() if k not in _NOT_COPIED}
    before = given.get(REVISION)
    if _revision(rs) < revision and (before or "0").isdecimal():
        wanted[REVISION] = str(revision)
        if before is not None:
            wanted[HISTORY] = _history(given.get(HISTORY, ""), before)
    return rs if wanted == given else with_meta(rs, annotations=wanted)


def _history(before: str, revision: str) -> str:
    entries = [*filter(None, before.split(",")), revision]
    while len(",".join(entries)) > HISTORY_CHARACTERS and len(entries) > 1:
        entries.pop(0)
    return ",".join(entries)


def _ensure_new(draft: Draft, find: Find) -> None:
    """Make the ReplicaSet of the Deployment's template, if there is none; a name that is taken by another template
    counts as a collision, and the next pass takes another name."""
    if draft.new is not None:
        return
    deployment = draft.deployment
    spec = deployment["spec"]
    pod_hash = template_name(spec["template"], draft.collisions)
    name = f"{deployment['metadata']['name'][: 253 - len(pod_hash) - 1]}-{pod_hash}"
    if find(name) is not None:
        draft.collisions = (draft.collisions or 0) + 1
        return
    template = spec["template"]
    pod_labels = {**((template.get("metadata") or {}).get("labels") or {}), HASH_LABEL: pod_hash}
    selector = spec["selector"]
    selector = {**selector, "matchLabels": {**(selector.get("matchLabels") or {}), HASH_LABEL: pod_hash}}
    size = scaling.size_of_new(deployment, draft.all, 0)
    rs: Object = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": name,
            "namespace": deployment["metadata"]["namespace"],
            "labels": pod_labels,
            "ownerReferences": [controller_reference(deployment)],
        },
        "spec": {
            "replicas": size,
            **({"minReadySeconds": spec["minReadySeconds"]} if spec.get("minReadySeconds") else {}),
            "selector": selector,
            "template": {**template, "metadata": {**(template.get("metadata") or {}), "labels": pod_labels}},
        },
    }
    draft.add(_sized(deployment, _annotated(deployment, rs, _next_revision(draft.old)), size))
    draft.revision = str(_next_revision(draft.old))
    if size:
        draft.tell("ScalingReplicaSet", f"Scaled up replica set {name} from 0 to {size}")
    if progress.deadline(deployment) is not None:
        text = f'Created new replica set "{name}"'
        condition = progress.made("Progressing", "True", "NewReplicaSetCreated", text, draft.now)
        draft.conditions = progress.put(draft.conditions, condition)


def _is_template_of(deployment: Object, rs: Object) -> bool:
    return same_template(deployment["spec"]["template"], rs["spec"]["template"])


# --- scaling and history ---


def _scale(draft: Draft) -> None:
    """A change of scale, or a pause: nothing is rolled on, and ReplicaSets keep their proportions."""
    deployment = draft.deployment
    if not draft.all:
        return
    single = scaling.only_active_or_latest(draft.new, draft.old)
    if single is not None:
        draft.scale(single["metadata"]["name"], replicas(deployment))
    elif scaling.is_saturated(deployment, draft.new):
        for rs in scaling.active(draft.old):
            draft.scale(rs["metadata"]["name"], 0)
    elif scaling.is_rolling(deployment):
        for name, size in scaling.proportional(deployment, scaling.active(draft.all)).items():
            draft.scale(name, size, annotate=True)


def _is_scaling_event(draft: Draft) -> bool:
    said = (annotations_of(rs).get(DESIRED, "") for rs in scaling.active(draft.all))
    return any(text.isdecimal() and int(text) != replicas(draft.deployment) for text in said)


def _sized(deployment: Object, rs: Object, size: int) -> Object:
    desired = replicas(deployment)
    said = {DESIRED: str(desired), MAX: str(desired + scaling.max_surge(deployment))}
    if replicas(rs) == size and said.items() <= annotations_of(rs).items():
        return rs
    return with_meta({**rs, "spec": {**rs["spec"], "replicas": size}}, annotations=annotations_of(rs) | said)


def _clean_up(draft: Draft) -> None:
    """Only so many old ReplicaSets stay as the history's limit says (cleanupDeployment)."""
    limit = draft.deployment["spec"].get("revisionHistoryLimit", 10)
    if limit is None or limit == NO_LIMIT:
        return
    alive = sorted((rs for rs in draft.old if not deleted(rs)), key=lambda rs: (_revision(rs), *age_key(rs)))
    for rs in alive[: max(0, len(alive) - limit)]:
        status = rs.get("status") or {}
        seen = status.get("observedGeneration", 0) >= rs["metadata"].get("generation", 0)
        if seen and not status.get("replicas") and not replicas(rs):
            draft.removed.append(rs)
