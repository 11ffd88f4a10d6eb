"""Which workload a person means: `web`, `deployment/web`, the name of a policy or of a Release."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from davylamp.cli.exits import BAD_INPUT, NOT_FOUND, Failure
from davylamp.controller.known import Known

KINDS = {
    "deployment": "Deployment",
    "deployments": "Deployment",
    "deploy": "Deployment",
    "release": "Release",
    "releases": "Release",
    "rel": "Release",
    "releasepolicy": "ReleasePolicy",
    "releasepolicies": "ReleasePolicy",
    "policy": "ReleasePolicy",
    "rp": "ReleasePolicy",
}


def split(name: str) -> tuple[str, str]:
    """The kind ("" if none is named) and the name in `deploy/web`, `deployment.apps/web` or `web`.

    Raises Failure for a kind that has nothing to do with releases.
    """
    kind, slash, rest = name.partition("/")
    if not slash:
        return "", name
    found = KINDS.get(kind.partition(".")[0].lower())
    if found is None or not rest:
        hint = "a Deployment's name, or deployment/NAME, policy/NAME or release/NAME"
        raise Failure(f'"{name}" names no workload: {hint} is needed', BAD_INPUT)
    return found, rest


def one(known: Known, namespace: str, name: str) -> str:
    """The name of the one Deployment that is meant. Raises Failure where there is none, or more than one."""
    found = some(known, namespace, name)
    if len(found) == 1:
        return found[0]
    if not found:
        raise Failure(f"policy {namespace}/{split(name)[1]} has no Deployment", NOT_FOUND)
    raise Failure(f'"{name}" is several Deployments in {namespace}, {_list(found)}: name one of them', BAD_INPUT)


def some(known: Known, namespace: str, name: str) -> list[str]:
    """The Deployments that are meant: one, or those of a policy (which may be none). Two that take turns are one
    workload, under the name that `Known.workload_of` gives it.

    A Deployment's own name wins. One that is gone, or isn't there yet, counts while a release or a policy names it.
    """
    kind, bare = split(name)
    if kind in ("", "Deployment") and bare in deployments(known, namespace):
        return [known.workload_of(namespace, bare)]
    releases = {r.metadata.name: r.spec.workload for r in known.releases if r.metadata.namespace == namespace}
    policies = {p.metadata.name: p for p in known.policies if p.metadata.namespace == namespace}
    found: list[str] = []
    if kind in ("", "Release") and bare in releases:
        found.append(releases[bare])
    if kind in ("", "ReleasePolicy") and bare in policies:
        target = policies[bare].spec.target
        matching = [d.metadata.name for d in known.namespace(namespace).targets_of(policies[bare])]
        found += [known.workload_of(namespace, one) for one in matching or target.names]
        if not found:
            return []
    if not found:
        raise _not_found(known, namespace, kind, bare)
    return list(dict.fromkeys(found))


def deployments(known: Known, namespace: str) -> set[str]:
    """The Deployments that are there, and those that only a release or a policy knows."""
    here = {d.metadata.name for d in known.deployments if d.metadata.namespace == namespace}
    here |= {name for r in known.releases if r.metadata.namespace == namespace for name in r.spec.deployments}
    return here | {name for p in known.policies if p.metadata.namespace == namespace for name in p.spec.target.names}


def _not_found(known: Known, namespace: str, kind: str, name: str) -> Failure:
    listed = {
        "Deployment": deployments(known, namespace),
        "Release": {r.metadata.name for r in known.releases if r.metadata.namespace == namespace},
        "ReleasePolicy": {p.metadata.name for p in known.policies if p.metadata.namespace == namespace},
    }
    names = listed[kind] if kind else set[str]().union(*listed.values())
    elsewhere = {d.metadata.namespace for d in known.deployments if d.metadata.name == name} - {namespace}
    if elsewhere:
        hint = f"there is one in {_list(sorted(elsewhere))}"
    elif close := difflib.get_close_matches(name, sorted(names), n=3):
        hint = f"did you mean {_list(close, 'or')}?"
    else:
        # Releases are many and say nothing that their Deployments don't.
        listed_here = sorted(listed["Deployment"] if kind != "Release" else names)
        hint = f"there are {_list(listed_here)}" if listed_here else "there is none at all in that namespace"
    what = f"{kind} {name}" if kind else f"Deployment, policy or release {name}"
    return Failure(f"no {what} in namespace {namespace}; {hint}", NOT_FOUND)


def _list(names: Iterable[str], last: str = "and", most: int = 8) -> str:
    found = list(names)
    if len(found) > most:
        return f"{', '.join(found[:most])} and {len(found) - most} more"
    return f" {last} ".join(filter(None, (", ".join(found[:-1]), found[-1])))
