"""Shell completion: what could be meant, asked of the cluster in at most a moment."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any

PATIENCE = 2.0
"""Seconds that a person pressing Tab may be kept waiting."""

Params = Mapping[str, Any]


def names(params: Params, incomplete: str) -> list[str]:
    """Workloads that policies release in the namespace."""
    return _starting(_ask(_names(params)), incomplete)


def namespaces(params: Params, incomplete: str) -> list[str]:
    return _starting(_ask(_namespaces(params)), incomplete)


def contexts(params: Params, incomplete: str) -> list[str]:
    from davylamp.kube.config import contexts as known

    try:
        return _starting(known(params.get("kubeconfig")), incomplete)
    except Exception:
        return []


def _starting(found: Iterable[str], incomplete: str) -> list[str]:
    return sorted(name for name in found if name.startswith(incomplete))


def _ask(question: Coroutine[Any, Any, set[str]]) -> set[str]:
    """The answer, or nothing: a completion never fails, and never says anything but candidates."""

    async def bounded() -> set[str]:
        async with asyncio.timeout(PATIENCE):
            return await question

    try:
        return asyncio.run(bounded())
    except Exception:
        return set()


async def _names(params: Params) -> set[str]:
    from davylamp.kube.client import connect
    from davylamp.routers.namespace import NamespaceObjects

    async with connect(params.get("kubeconfig"), params.get("context")) as api:
        namespace = params.get("namespace") or api.namespace
        kinds = ("ReleasePolicy", "Deployment")
        found = await asyncio.gather(*(api.list(kind, namespace) for kind in kinds))
    policies, deployments = found
    objects = NamespaceObjects.of(namespace, [*policies, *deployments])
    released = {d.metadata.name for policy in policies for d in objects.targets_of(policy)}
    return released | {name for policy in policies for name in policy.spec.target.names}


async def _namespaces(params: Params) -> set[str]:
    from davylamp.kube.client import connect

    async with connect(params.get("kubeconfig"), params.get("context")) as api:
        return {found.metadata.name for found in await api.list("Namespace")}
