"""Davylamp's gate: the only MutatingAdmissionPolicies that are carried out here, recognised by their text.

A real API server evaluates any such policy. This one knows those that `davylamp.kube.gate` makes and refuses all
others (501), since a policy that is stored and not carried out would be a lie.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from davylamp.api import GROUP, VERSION
from davylamp.core import names
from davylamp.embedded import defaults, selectors, status
from davylamp.embedded.protocol import Reads
from davylamp.embedded.resources import Resource
from davylamp.embedded.writing import Request
from davylamp.kube import gate

Object = dict[str, Any]

POLICY = "MutatingAdmissionPolicy"
BINDING = "MutatingAdmissionPolicyBinding"
_WRITER = re.compile(r'request\.userInfo\.username != (".*")')


def check(resource: Resource, obj: Object) -> None:
    """Raises StatusError 501 for a policy or a binding that is not the gate's."""
    if resource.name == POLICY and writer_of(resource, obj) is None:
        what = f'{POLICY} "{obj["metadata"]["name"]}": only those that `davy install` makes are carried out here'
        raise status.not_implemented(what)
    if resource.name == BINDING and not _known_binding(obj["spec"]):
        what = f'{BINDING} "{obj["metadata"]["name"]}": only those that `davy install` makes are carried out here'
        raise status.not_implemented(what)


def writer_of(resource: Resource, policy: Object) -> str | None:
    """The user whom a policy of ours lets through, or None where it is not one of ours."""
    spec = policy.get("spec") or {}
    texts = [entry.get("expression", "") for entry in spec.get("matchConditions") or ()]
    found = next((match for text in texts if (match := _WRITER.fullmatch(text))), None)
    if found is None:
        return None
    writer = str(msgspec.json.decode(found[1]))
    ours = (made["spec"] for made in gate.manifests(writer) if made["kind"] == POLICY)
    if not any(defaults.filled(resource, None, {"spec": made})["spec"] == spec for made in ours):
        return None
    return writer


def _known_binding(spec: Object) -> bool:
    known = {made["spec"]["policyName"]: made["spec"] for made in gate.manifests("", "x") if made["kind"] == BINDING}
    ours = known.get(spec.get("policyName", ""))
    if ours is None or spec.get("paramRef") != ours.get("paramRef"):
        return False
    return not spec.keys() - {"policyName", "paramRef", "matchResources"}


class Gate:
    """The admission hook of a store."""

    def __init__(self, store: Reads) -> None:
        self._store = store

    def __call__(self, old: Object | None, new: Object, request: Request) -> Object:
        if (
            request.operation != "UPDATE"
            or (new["apiVersion"], new["kind"]) != ("apps/v1", "Deployment")
            or old is None
        ):
            return new
        for binding in self._store.list(BINDING):
            policy = self._store.get(POLICY, "", binding["spec"]["policyName"])
            if policy is not None and self._matches(policy, binding, old, new, request):
                new = paused(new)
        return new

    def _matches(self, policy: Object, binding: Object, old: Object, new: Object, request: Request) -> bool:
        meta, spec = new["metadata"], policy["spec"]
        if new["spec"]["template"] == old["spec"]["template"] or "deletionTimestamp" in meta:
            return False
        constraints = spec["matchConstraints"]
        chosen = selectors.of_object(constraints["objectSelector"])
        if not (chosen(selectors.labels_of(new)) or chosen(selectors.labels_of(old))):
            return False
        namespace = self._store.get("Namespace", "", meta["namespace"]) or {"metadata": {}}
        only = (binding["spec"].get("matchResources") or {}).get("namespaceSelector") or {}
        if not selectors.of_object(only)(selectors.labels_of(namespace)):
            return False
        if request.user == writer_of(self._store.resources.named(POLICY), policy):
            return False
        return "paramKind" not in spec or self._targeted(new)

    def _targeted(self, obj: Object) -> bool:
        """Whether a ReleasePolicy of the namespace, one that stays, targets the Deployment."""
        try:
            kind = self._store.resources.at(GROUP, VERSION, "releasepolicies").name
        except status.StatusError:
            return False  # The CRD is gone: what this policy can't judge goes through (failurePolicy Ignore).
        meta = obj["metadata"]
        return any(
            "deletionTimestamp" not in policy["metadata"] and _targets(policy["spec"]["target"], meta)
            for policy in self._store.list(kind, meta["namespace"])
        )


def _targets(target: Object, meta: Object) -> bool:
    if "name" in target:
        return bool(target["name"] == meta["name"])
    if "pair" in target:
        return meta["name"] in target["pair"].values()
    wanted, labels = target.get("matchLabels"), meta.get("labels")
    return wanted is not None and labels is not None and wanted.items() <= labels.items()


def paused(obj: Object) -> Object:
    """The Deployment as the gate leaves it."""
    meta, spec = obj["metadata"], obj["spec"]
    if spec.get("paused"):
        return obj
    annotations = {**(meta.get("annotations") or {}), names.PAUSED_BY: gate.PAUSED_BY_GATE}
    return {**obj, "metadata": {**meta, "annotations": annotations}, "spec": {**spec, "paused": True}}
