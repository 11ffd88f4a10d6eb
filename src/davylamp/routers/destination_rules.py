"""The DestinationRule for the canary's Service: what the user's says of the Service's host it says of that one.

Istio knows rules by host, and for a release each version has a host of its own. Without a copy the canary's requests
would go without the user's connection pool, TLS settings, outlier detection and consistent hashing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from davylamp.api import API_VERSION
from davylamp.api.objects import HASH_LABEL, DestinationRule
from davylamp.core import names
from davylamp.core.actions import Ref
from davylamp.core.manifests import owner
from davylamp.core.world import RouteContext, Wanted
from davylamp.routers import exports, istio_split

Json = dict[str, Any]


def prepared(users: tuple[DestinationRule, ...], about_canary: tuple[DestinationRule, ...], at: RouteContext) -> Wanted:
    """What is left to write before requests may be sent to the canary's Service. `users` are the rules about the
    Service's host, `about_canary` those about the canary's, where somebody's own comes first."""
    spec = _copied(users_of(users, at), at)
    ours = [rule for rule in about_canary if is_ours(rule, at)]
    if spec is None or len(ours) < len(about_canary):
        return Wanted()
    return _wanted(ours, spec, at.canary_service, at)


def subsets(known: tuple[DestinationRule, ...], at: RouteContext) -> Wanted:
    """A rule of ours with the two subsets. Istio takes the subsets of all rules for a host together, and the user's
    policy for all of them, where the rules are for the same clients (`mergeDestinationRule`)."""
    first = exports.oldest(users_of(known, at))
    theirs: Json = first.spec if first is not None else {}
    same: Json = {key: theirs[key] for key in ("exportTo",) if key in theirs}
    pods = ((istio_split.STABLE, at.stable_hash), (istio_split.CANARY, at.canary_hash))
    found = [{"name": name, "labels": {HASH_LABEL: value}} for name, value in pods]
    spec: Json = {"host": theirs.get("host", at.service), **same, "subsets": found}
    return _wanted([rule for rule in known if is_ours(rule, at)], spec, f"{at.service}-davylamp", at)


def _wanted(ours: Sequence[DestinationRule], spec: Json, name: str, at: RouteContext) -> Wanted:
    if not ours:
        return Wanted(present=(_manifest(spec, name, at),))
    rule = ours[0]
    changes = _changes(rule.spec, spec)
    if not changes:
        return Wanted()
    version = {"resourceVersion": rule.metadata.resource_version}
    return Wanted(patches=((_ref(rule, at), {"metadata": version, "spec": changes}),))


def remains(about_canary: tuple[DestinationRule, ...], at: RouteContext) -> tuple[tuple[Ref, str], ...]:
    """Ours, to be deleted when no route names the canary's Service any more."""
    return tuple((_ref(rule, at), rule.metadata.uid) for rule in about_canary if is_ours(rule, at))


def users_of(known: Sequence[DestinationRule], at: RouteContext) -> list[DestinationRule]:
    """Those that are not ours."""
    return [rule for rule in known if not is_ours(rule, at)]


def is_ours(rule: DestinationRule, at: RouteContext) -> bool:
    controller = rule.metadata.controller
    return controller is not None and controller.uid == at.release_uid


def _copied(users: Sequence[DestinationRule], at: RouteContext) -> Json | None:
    """Of several rules for a host Istio takes the oldest one's policy. Subsets stay out: the canary has none."""
    first = exports.oldest(rule for rule in users if rule.spec.get("trafficPolicy"))
    if first is None:
        return None
    host = str(first.spec.get("host", ""))
    kept = {key: value for key, value in first.spec.items() if key != "subsets"}
    return kept | {"host": at.canary_service + host[len(at.service) :]}


def _changes(found: Json, wanted: Json) -> Json:
    """The merge patch from one to the other (RFC 7396)."""
    changed: Json = {key: None for key in found if key not in wanted}
    for key, value in wanted.items():
        before = found.get(key)
        if isinstance(value, dict) and isinstance(before, dict):
            if inner := _changes(before, value):
                changed[key] = inner
        elif value != before:
            changed[key] = value
    return changed


def _manifest(spec: Json, name: str, at: RouteContext) -> Json:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {
            "name": name,
            "namespace": at.namespace,
            "labels": names.MANAGED_BY | {names.RELEASE_LABEL: names.fit(at.release, 63)},
            "ownerReferences": [owner(API_VERSION, "Release", at.release, at.release_uid)],
        },
        "spec": spec,
    }


def _ref(rule: DestinationRule, at: RouteContext) -> Ref:
    return Ref("DestinationRule", at.namespace, rule.metadata.name)
