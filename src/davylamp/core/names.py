"""Names, labels and annotations that Davylamp gives: deterministic, so that doing a thing twice is doing it once."""

from __future__ import annotations

import hashlib

FINALIZER = "davylamp.dev/release"
"""Keeps a Release or a ReleasePolicy until the traffic is taken away from the canary."""

MANAGER = "davylamp"
"""The field manager of our writes."""

MANAGED_BY = {"app.kubernetes.io/managed-by": "davylamp"}
RELEASE_LABEL = "davylamp.dev/release"
"""On the objects of a release: its name."""
DEPLOYMENT_LABEL = "davylamp.dev/deployment"
"""On a Release: the name of its Deployment (shortened where it is too long for a label)."""

PAUSED_BY = "davylamp.dev/paused-by"
"""On a Deployment that was paused for us: by the `gate` in the API server, or by `davylamp` where there is none."""
START = "davylamp.dev/start"
"""On the idle Deployment of a pair: the name of the release that a person wants of the template that it has."""
START_BY = "davylamp.dev/start-by"
"""Beside START, and then on the Release: who wants it, and why."""
PINNED_BY = "davylamp.dev/pinned-by"
"""On a Service whose selector has our pod-template-hash: the release that put it there."""

ROUTED = "davylamp.dev/routed"
"""On a route of the user's while we split it: how it was before, by the name of the Service that is released."""


def fit(name: str, limit: int) -> str:
    """`name`, or where it is longer than `limit` its beginning and eight digits of its hash."""
    if len(name) <= limit:
        return name
    digest = hashlib.blake2b(name.encode(), digest_size=4).hexdigest()
    return f"{name[: limit - 9].rstrip('-.')}-{digest}"


def event(release: str, reason: str, key: str = "") -> str:
    """An Event's name: one for each release, reason and `key`."""
    return fit(".".join(filter(None, (release, reason.lower(), key))), 253)


def release_name(deployment: str, template: str, attempt: int) -> str:
    """Also the name of the canary's ReplicaSet, so at most 253 - 6 characters (its pods add six)."""
    return fit(f"{deployment}-{template}-{attempt}", 246)


def canary_hash(template: str, attempt: int) -> str:
    """The canary's pod-template-hash. Any unique value will do: the Deployment controller compares templates."""
    return f"{template}-{attempt}"


def canary_service(service: str) -> str:
    """A Service's name has at most 63 characters."""
    return fit(f"{service}-canary", 63)


def deployment_label(deployment: str) -> str:
    """A label's value has at most 63 characters."""
    return fit(deployment, 63)
