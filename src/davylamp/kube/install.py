"""Putting Davylamp into a cluster: apply, see what changed, wait until it works. Safe to repeat at any time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec

from davylamp.api import API_VERSION
from davylamp.core.actions import Patch, Ref
from davylamp.core.world import Gate
from davylamp.kube import gate
from davylamp.kube.clock import Clock, sleep
from davylamp.kube.errors import ApiError
from davylamp.kube.kinds import ref_of_manifest
from davylamp.kube.manifests import INSTALLED, Manifest, Options, manifests
from davylamp.kube.protocol import Api

__all__ = ["Change", "InstallProblem", "InstallReport", "Options", "choose_gate", "install", "manifests"]

Say = Callable[[str], object]
"""Told what is going on, for a person who waits."""

MINIMUM = (1, 30)
"""The oldest Kubernetes whose CRDs have all that ours use (selectableFields)."""
ESTABLISHED = 30.0
"""Seconds that a CRD may take to be served."""
ACTIVE = 60.0
"""Seconds that the gate may take. Usually it is one; an API server that has asked for our kind before it was there
asks again after 30 (see `davylamp.kube.gate`)."""
POLL = 0.1

Result = Literal["created", "changed", "unchanged", "deleted", "left alone"]


class Change(msgspec.Struct, frozen=True):
    """What became of one object."""

    kind: str
    name: str
    result: Result
    namespace: str = ""


class InstallReport(msgspec.Struct, frozen=True, rename="camel"):
    """`gate_active_after` is the time in seconds until the gate was seen at work, None where that was not tried."""

    gate: Gate
    changes: tuple[Change, ...]
    gate_active_after: float | None = None
    notes: tuple[str, ...] = ()


class InstallProblem(Exception):
    """Why it can't be done, in words for a person. `kind` tells a program."""

    def __init__(self, kind: Literal["bad input", "refused", "timed out"], message: str) -> None:
        super().__init__(message)
        self.kind = kind


FALLBACK = (
    "there is no gate: this cluster does not offer MutatingAdmissionPolicy (admissionregistration.k8s.io/v1, "
    "Kubernetes 1.36 and later). Instead Davylamp keeps every Deployment that has a ReleasePolicy permanently paused; "
    "`kubectl rollout status`, Argo CD and Flux show such a Deployment as paused or suspended. A Deployment is "
    "protected from when the controller has seen it, not from the moment its policy is created"
)

BY_CHOICE = (
    "there is no gate, as asked: Davylamp keeps every Deployment that has a ReleasePolicy permanently paused. "
    "The controller has to know, since this cluster could do otherwise: `davy controller --gate fallback`"
)


async def choose_gate(api: Api, wanted: Gate | Literal["auto"]) -> Gate:
    """The gate that this cluster can have. Raises InstallProblem where `wanted` is not to be had."""
    offered = await api.exists_api(gate.API, gate.RESOURCE)
    if wanted == "admission" and not offered:
        message = "--gate admission: this cluster does not offer MutatingAdmissionPolicy v1 (Kubernetes 1.36 and later)"
        raise InstallProblem("bad input", f"{message}; use --gate auto")
    return "admission" if offered and wanted != "fallback" else "fallback"


async def install(
    api: Api,
    trial: Api,
    options: Options,
    clock: Clock,
    *,
    dry_run: bool = False,
    say: Say = lambda text: None,
) -> InstallReport:
    """Apply everything in order, wait until the CRDs are served and the gate is seen at work.

    `trial` is the same cluster with writes that are only tried (`davylamp.kube.trial`). With `dry_run` every write
    goes there. Raises ApiError, and InstallProblem: "bad input" where the options don't fit the cluster,
    "timed out" where everything is applied and does not begin to work.
    """
    await _check(api, options)
    wanted = manifests(options)
    changes = []
    for manifest in wanted:
        change = await (_tried(api, trial, manifest) if dry_run else _applied(api, manifest))
        changes.append(change)
        if manifest["kind"] == "CustomResourceDefinition" and not dry_run:
            await _established(api, clock, manifest, say)
    changes += await _pruned(api, trial if dry_run else api, wanted)
    if options.gate == "fallback":
        offered = await api.exists_api(gate.API, gate.RESOURCE)
        return InstallReport(options.gate, tuple(changes), notes=(BY_CHOICE if offered else FALLBACK,))
    if dry_run:
        return InstallReport(options.gate, tuple(changes))
    after, reason = await _proven(api, trial, options, clock, say)
    return InstallReport(options.gate, tuple(changes), after, (reason,) if reason else ())


async def _check(api: Api, options: Options) -> None:
    found = await api.version()
    version = tuple(int("".join(filter(str.isdigit, found.get(part, ""))) or 0) for part in ("major", "minor"))
    if version < MINIMUM:
        raise InstallProblem(
            "bad input",
            f"this cluster is Kubernetes {found.get('gitVersion')}; 1.30 is the oldest that will do",
        )
    if options.only and await api.get(Ref("Namespace", "", options.only)) is None:
        raise InstallProblem(
            "bad input", f"--namespace-only {options.only}: there is no such namespace; create it first"
        )


async def _applied(api: Api, manifest: Manifest) -> Change:
    ref = ref_of_manifest(manifest)
    before = await api.get(ref)
    if _foreign_namespace(ref, before):
        return _change(ref, "left alone")
    after = await api.apply(manifest)
    if before is None:
        return _change(ref, "created")
    same = before["metadata"]["resourceVersion"] == after.metadata.resource_version
    return _change(ref, "unchanged" if same else "changed")


async def _tried(api: Api, trial: Api, manifest: Manifest) -> Change:
    """What `_applied` would do. Whether it would change something is told by comparing, since an update that is only
    tried gets no new resource version."""
    ref = ref_of_manifest(manifest)
    before = await api.get(ref)
    if _foreign_namespace(ref, before):
        return _change(ref, "left alone")
    try:
        await trial.apply(manifest)
    except ApiError as error:
        if not (error.not_found and ref.namespace):
            raise  # A namespace that would have been made before this is no failure.
    if before is None:
        return _change(ref, "created")
    return _change(ref, "unchanged" if _contains(before, manifest) else "changed")


def _contains(found: Any, wanted: Any) -> bool:
    """Whether all that is `wanted` is in `found`, which may have more (defaults, other people's labels)."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(_contains(found.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        same = isinstance(found, list) and len(found) == len(wanted)
        return same and all(_contains(one, other) for one, other in zip(found, wanted, strict=True))
    return bool(found == wanted)


def _foreign_namespace(ref: Ref, found: dict[str, Any] | None) -> bool:
    """A namespace that was there before us stays as it is, also when we go."""
    return ref.kind == "Namespace" and found is not None and not _ours(found)


def _ours(obj: dict[str, Any]) -> bool:
    return INSTALLED.items() <= (obj["metadata"].get("labels") or {}).items()


def _change(ref: Ref, result: Result) -> Change:
    return Change(ref.kind, ref.name, result, ref.namespace)


PRUNED = (
    "MutatingAdmissionPolicyBinding",
    "MutatingAdmissionPolicy",
    "ClusterRoleBinding",
    "RoleBinding",
    "ClusterRole",
    "Role",
)


async def _pruned(api: Api, writer: Api, wanted: list[Manifest]) -> list[Change]:
    """Delete (by `writer`) what other options have left: rights that are no longer wanted, or a gate."""
    keep = {ref_of_manifest(manifest) for manifest in wanted}
    changes = []
    for kind in PRUNED:
        for ref in await installed(api, kind):
            if ref not in keep:
                await writer.delete(ref)
                changes.append(_change(ref, "deleted"))
    return changes


async def installed(api: Api, kind: str) -> list[Ref]:
    """The objects of a kind that `davy install` made."""
    if kind.startswith("MutatingAdmission") and not await api.exists_api(gate.API, gate.RESOURCE):
        return []
    labels = ",".join(f"{key}={value}" for key, value in INSTALLED.items())
    found = await api.list(kind, labels=labels)
    return [Ref(kind, obj.metadata.namespace, obj.metadata.name) for obj in found]


# --- waiting until it works ---


async def _established(api: Api, clock: Clock, manifest: Manifest, say: Say) -> None:
    """Until the API server serves the CRD."""
    ref = ref_of_manifest(manifest)
    deadline = clock.time() + ESTABLISHED
    while True:
        found = await api.get(ref) or {}
        conditions = {c["type"]: c for c in found.get("status", {}).get("conditions") or ()}
        if conditions.get("Established", {}).get("status") == "True":
            return
        if clock.time() >= deadline:
            accepted = conditions.get("NamesAccepted", {})
            why = f": {accepted.get('message')}" if accepted.get("status") == "False" else ""
            raise InstallProblem("timed out", f"{ref} is not served after {ESTABLISHED:.0f} s{why}")
        say(f"waiting until {ref} is served")
        await sleep(clock, POLL)


PROBE = "davylamp-gate-probe"


async def _proven(api: Api, trial: Api, options: Options, clock: Clock, say: Say) -> tuple[float | None, str]:
    """Seconds until the gate held a Deployment, seen on a probe: an empty, paused Deployment with a policy, to which
    a template change is tried that would also resume it. (Stored are only these two objects, for the time of it.)"""
    if await api.whoami() == options.user:
        return None, f"the gate could not be tried: it lets {options.user}, who is asking, through"
    namespace = options.only or options.namespace
    began = clock.time()
    try:
        for manifest in _probe(namespace):
            await _applied_soon(api, clock, manifest, began + ESTABLISHED)
        attempt = 0
        while not await _held(trial, namespace, attempt):
            if clock.time() - began >= ACTIVE:
                message = f"everything is installed, but the gate did not hold a Deployment within {ACTIVE:.0f} s"
                raise InstallProblem("timed out", f"{message}; the API server's log says why. Run `davy install` again")
            say("waiting until the API server has taken up the gate (up to half a minute)")
            await sleep(clock, POLL)
            attempt += 1
        return round(clock.time() - began, 1), ""
    finally:
        await remove_probe(api, namespace)


async def _applied_soon(api: Api, clock: Clock, manifest: Manifest, deadline: float) -> None:
    """One of several API servers may serve a CRD a few seconds after another."""
    while True:
        try:
            await api.apply(manifest)
            return
        except ApiError as error:
            if not error.not_found or clock.time() >= deadline:
                raise
        await sleep(clock, POLL)


async def _held(trial: Api, namespace: str, attempt: int) -> bool:
    change = {"metadata": {"annotations": {"davylamp.dev/attempt": str(attempt)}}}
    tried = Patch(Ref("Deployment", namespace, PROBE), {"spec": {"paused": False, "template": change}})
    return bool((await trial.patch(tried)).spec.paused)


def _probe(namespace: str) -> list[Manifest]:
    labels = {"app.kubernetes.io/name": PROBE, **INSTALLED}
    meta = {"name": PROBE, "namespace": namespace, "labels": labels}
    container = {"name": "none", "image": "none.invalid/none"}
    deployment = {
        "replicas": 0,
        "paused": True,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
    }
    return [
        {
            "apiVersion": API_VERSION,
            "kind": "ReleasePolicy",
            "metadata": meta,
            "spec": {"target": {"name": PROBE}, "steps": [{"weight": 100}]},
        },
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": deployment},
    ]


async def remove_probe(api: Api, namespace: str) -> None:
    """Delete the probe, also where a controller has put its finalizer on it."""
    for kind in ("Deployment", "ReleasePolicy"):
        ref = Ref(kind, namespace, PROBE)
        try:
            if await api.delete(ref) is not None:
                await api.patch(Patch(ref, {"metadata": {"finalizers": None}}))
        except ApiError as error:
            if not error.not_found:
                raise
