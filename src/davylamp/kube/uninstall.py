"""Taking Davylamp out of a cluster, with every Deployment, Service and Ingress left as a person expects to find it.

The order is such that each moment is a good one to crash in, and a second run goes on where the first one ended:

1. the gate, so that no new release begins
2. with --force: releases under way are taken back, by the controller or, where none answers, from here
3. the controller and its rights: from here on nothing of ours writes any more, and what has begun in the last
   moment is taken back from here
4. policies before Releases (a Release is the memory of a rejected template), their finalizers first
5. Deployments go on, but for those that hold a template which never became stable; Services are given back
6. CRDs, roles, service account, namespace
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from davylamp.api import API_VERSION
from davylamp.api.objects import HASH_LABEL, Service
from davylamp.api.types import Release
from davylamp.core import names
from davylamp.core.actions import Patch, Ref
from davylamp.kube import held
from davylamp.kube.clock import Clock, sleep
from davylamp.kube.errors import ApiError
from davylamp.kube.held import Held
from davylamp.kube.install import PROBE, Change, InstallProblem, Say, installed
from davylamp.kube.kinds import kind_of
from davylamp.kube.manifests import NAME
from davylamp.kube.protocol import Api
from davylamp.kube.takeback import take_back

REACTION = 5.0
"""Seconds in which a controller at work has long reacted to an abort."""
TAKEOVER = 20.0
"""The same where controllers share a Lease: one that stands by takes over when it has not been renewed for 15."""
GOING = 60.0
"""Seconds that a deleted object may take to be gone."""
AT_ONCE = 20
"""Releases that are taken back from here at the same time."""
POLL = 0.25
KINDS = ("ReleasePolicy", "Release")
"""In the order of their deletion."""
RIGHTS = ("ClusterRoleBinding", "RoleBinding")
LAST = ("ClusterRole", "Role", "ServiceAccount")


class UninstallReport(msgspec.Struct, frozen=True, rename="camel"):
    """`changes` are the objects that went or were given back, `held` the Deployments that stay paused."""

    changes: tuple[Change, ...]
    held: tuple[Held, ...] = ()
    notes: tuple[str, ...] = ()


async def uninstall(
    api: Api,
    clock: Clock,
    *,
    force: bool = False,
    by: str = "",
    within: float = 300.0,
    kubectl: str = "kubectl",
    say: Say = lambda text: None,
) -> UninstallReport:
    """Take everything back that `davy install` and the controller have made.

    `within` seconds the releases under way must be taken back (`force`). `kubectl` begins the commands that are
    suggested. Raises InstallProblem, "refused" where releases are under way and `force` is not given (nothing has
    been changed then), "timed out" where a rollback or a deletion does not come to its end; and ApiError.
    """
    served = await _served(api)
    if not force:
        _refuse(await _active(api, served))
    changes = await _delete_all(api, "MutatingAdmissionPolicyBinding")
    changes += await _delete_all(api, "MutatingAdmissionPolicy")
    if not force:
        gone = "; the gate is removed already, so either go on with --force or run `davy install` again"
        _refuse(await _active(api, served), gone)
    elif "Release" in served:
        await _finish(api, clock, by, within, say)
    changes += await _stop_controller(api, clock, say)
    for kind in RIGHTS:
        changes += await _delete_all(api, kind)
    await _take_all_back(api, clock, await _active(api, served), by, clock.time() + within)
    for kind in KINDS:
        changes += await _delete_ours(api, kind) if kind in served else []
    deployments, left = await held.let_go(api, kubectl)
    changes += deployments
    changes += await _give_back_services(api)
    changes += await _delete_crds(api, clock, served, say)
    for kind in LAST:
        changes += await _delete_all(api, kind)
    namespaces, notes = await _delete_namespaces(api, clock, say)
    return UninstallReport(tuple(changes + namespaces), tuple(left), tuple(notes))


async def _served(api: Api) -> tuple[str, ...]:
    """Which of our kinds the API server still has."""
    return tuple([kind for kind in KINDS if await api.exists_api(API_VERSION, kind_of(kind).plural)])


# --- releases under way ---


async def _active(api: Api, served: Sequence[str]) -> list[Release]:
    if "Release" not in served:
        return []
    return [release for release in await api.list("Release") if release.active]


def _refuse(active: list[Release], more: str = "") -> None:
    if not active:
        return
    listed = ", ".join(f"{_name(release)} ({release.status.phase})" for release in active[:10])
    listed += f" and {len(active) - 10} more" if len(active) > 10 else ""
    what = "1 release is under way" if len(active) == 1 else f"{len(active)} releases are under way"
    hint = "wait, end them with `davy promote` or `davy abort`, or let --force take them back first"
    raise InstallProblem("refused", f"{what}: {listed}; {hint}{more}")


def _name(release: Release) -> str:
    return f"{release.metadata.namespace}/{release.metadata.name}"


async def _finish(api: Api, clock: Clock, by: str, within: float, say: Say) -> None:
    """Have all releases taken back, and wait; do it from here for those about which no controller does anything."""
    deadline = clock.time() + within
    shared = any(lease.metadata.name == NAME for lease in await api.list("Lease"))
    patience = min(TAKEOVER if shared else REACTION, within)
    asked: dict[str, tuple[str, float]] = {}
    answered: set[str] = set()
    while left := await _active(api, ("Release",)):
        for release in left:
            name, version = release.metadata.uid, release.metadata.resource_version
            if name not in asked:
                asked[name] = (await _abort(api, release, by), clock.time() + patience)
            elif asked[name][0] != version:
                answered.add(name)
        if clock.time() >= deadline:
            waiting = "; ".join(f"{_name(release)}: {release.status.message}" for release in left)
            hint = "look at the controller's log; or stop the controller and run this again, which does without it"
            raise InstallProblem("timed out", f"not taken back within {within:.0f} s: {waiting}. {hint}")
        say(f"taking {'1 release' if len(left) == 1 else f'{len(left)} releases'} back")
        orphans = [r for r in left if r.metadata.uid not in answered and clock.time() >= asked[r.metadata.uid][1]]
        if orphans:
            say(f"no controller answers: taking back from here {', '.join(map(_name, orphans[:10]))}")
            await _take_all_back(api, clock, orphans, by, deadline)
        await sleep(clock, POLL)


async def _take_all_back(api: Api, clock: Clock, releases: list[Release], by: str, deadline: float) -> None:
    """Take them back from here."""
    limit = asyncio.Semaphore(AT_ONCE)

    async def take_one(release: Release) -> None:
        async with limit:
            await _abort(api, release, by)
            await take_back(api, clock, release, deadline)

    await asyncio.gather(*map(take_one, releases))


async def _abort(api: Api, release: Release, by: str) -> str:
    """Ask for the rollback; the resource version from which on a change is somebody's answer. A completed release that
    only keeps old pods isn't taken back: deleted, it lets them go."""
    if release.spec.abort is not None or release.metadata.deletion_timestamp is not None:
        return release.metadata.resource_version
    command = {"by": by, "reason": "Davylamp is being uninstalled"}
    ref = Ref("Release", release.metadata.namespace, release.metadata.name)
    try:
        if release.keeping:
            going = await api.delete(ref, release.metadata.uid)
            return str(going.metadata.resource_version) if going is not None else ""
        written = await api.patch(Patch(ref, {"spec": {"abort": command}}))
    except ApiError as error:
        if not error.not_found:
            raise
        return release.metadata.resource_version
    return str(written.metadata.resource_version)


# --- what is ours ---


async def _delete(api: Api, ref: Ref) -> list[Change]:
    try:
        await api.delete(ref)
    except ApiError as error:
        if not error.not_found:
            raise
        return []
    return [Change(ref.kind, ref.name, "deleted", ref.namespace)]


async def _delete_all(api: Api, kind: str) -> list[Change]:
    """What `davy install` made of a kind."""
    return [change for ref in await installed(api, kind) for change in await _delete(api, ref)]


async def _delete_ours(api: Api, kind: str) -> list[Change]:
    """All objects of one of our kinds. Nobody is left who would take the finalizers off."""
    changes = []
    for obj in await api.list(kind):
        ref = Ref(kind, obj.metadata.namespace, obj.metadata.name)
        changes += await _delete(api, ref)
        if obj.metadata.finalizers:
            try:
                await api.patch(Patch(ref, {"metadata": {"finalizers": None}}))
            except ApiError as error:
                if not error.not_found:
                    raise
    return changes


async def _stop_controller(api: Api, clock: Clock, say: Say) -> list[Change]:
    """Delete the controller's Deployment (and a gate's probe that a crash has left), and wait for its pods."""
    changes = []
    for ref in await installed(api, "Deployment"):
        changes += await _delete(api, ref)
        if ref.name != PROBE:
            deadline = clock.time() + GOING
            while await api.list("Pod", ref.namespace, f"app.kubernetes.io/name={NAME}"):
                if clock.time() >= deadline:
                    raise InstallProblem("timed out", f"the pods of {ref} have not ended after {GOING:.0f} s")
                say("waiting until the controller has ended")
                await sleep(clock, POLL)
    return changes


async def _give_back_services(api: Api) -> list[Change]:
    """The own selector of a Service that a release has left pinned."""
    changes = []
    for service in await api.list("Service"):
        meta = service.metadata
        if names.PINNED_BY in meta.annotations:
            await api.patch(Patch(Ref("Service", meta.namespace, meta.name), _unpinned(service)))
            changes.append(Change("Service", meta.name, "changed", meta.namespace))
    return changes


def _unpinned(service: Service) -> dict[str, Any]:
    meta = {"resourceVersion": service.metadata.resource_version, "annotations": {names.PINNED_BY: None}}
    return {"metadata": meta, "spec": {"selector": {HASH_LABEL: None}}}


async def _delete_crds(api: Api, clock: Clock, served: Sequence[str], say: Say) -> list[Change]:
    changes = []
    for kind in KINDS:
        ref = Ref("CustomResourceDefinition", "", kind_of(kind).resource)
        changes += await _delete(api, ref)
        await _gone(api, clock, ref, say)
    return changes


async def _gone(api: Api, clock: Clock, ref: Ref, say: Say) -> None:
    deadline = clock.time() + GOING
    while await api.get(ref) is not None:
        if clock.time() >= deadline:
            raise InstallProblem("timed out", f"{ref} is deleted, but still there after {GOING:.0f} s; run this again")
        say(f"waiting until {ref} is gone")
        await sleep(clock, POLL)


async def _delete_namespaces(api: Api, clock: Clock, say: Say) -> tuple[list[Change], list[str]]:
    """The namespace that `davy install` made, unless somebody else has come to live in it."""
    changes, notes = [], []
    for ref in await installed(api, "Namespace"):
        tenants = [
            f"{kind} {obj.metadata.name}" for kind in ("Pod", "Service") for obj in await api.list(kind, ref.name)
        ]
        if tenants:
            some = ", ".join(tenants[:3]) + (f" and {len(tenants) - 3} more" if len(tenants) > 3 else "")
            notes.append(f"namespace {ref.name} stays, since it has things that are not ours: {some}")
            changes += await _delete(api, Ref("Lease", ref.name, NAME))
            continue
        changes += await _delete(api, ref)
        await _gone(api, clock, ref, say)
    return changes, notes
