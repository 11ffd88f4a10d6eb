"""The gate: a template change of a targeted Deployment pauses it in the very write, whoever writes and however.

Two MutatingAdmissionPolicies (admissionregistration.k8s.io/v1, Kubernetes 1.36 and later) do the same on two grounds:

`davylamp-gate` asks the ReleasePolicies themselves, its parameters. It holds from the moment a policy exists, with
nothing of ours running. But an API server finds the parameters' kind by a discovery that it repeats only every 30 s:
for the first 30 s after its own start it mostly doesn't know our kind yet (tried on 1.37.2: 5 of 6 restarts).
With `failurePolicy: Fail` it then refuses every update of every Deployment in the cluster, the Deployment
controller's included, and for good where our CRD was deleted first. So this one is `Ignore`: what it can't judge
goes through.

`davylamp-gate-marked` has no parameters, and so nothing that can be missing: it looks for the label MARK, which the
controller puts on every Deployment that has a policy. It holds from an API server's first request on, and
costs the same whatever the number of policies. It can be `Fail`, and touches nothing but marked Deployments.
"""

from __future__ import annotations

from typing import Any

import msgspec

from davylamp.api import API_VERSION
from davylamp.core import names

NAME = "davylamp-gate"
MARKED = "davylamp-gate-marked"
MARK = "davylamp.dev/policy"
"""Label on a Deployment: it has a ReleasePolicy, whose name is the value."""
PAUSED_BY_GATE = "gate"
API = "admissionregistration.k8s.io/v1"
RESOURCE = "mutatingadmissionpolicies"

_CHANGED = "object.spec.template != oldObject.spec.template"
_STAYS = "!has(object.metadata.deletionTimestamp)"
_POLICY_STAYS = "!has(params.metadata.deletionTimestamp)"
_TARGETED = (
    "has(params.spec.target.name) ? params.spec.target.name == object.metadata.name : "
    "has(params.spec.target.pair) ? object.metadata.name in "
    "[params.spec.target.pair.stable, params.spec.target.pair.canary] : "
    "has(params.spec.target.matchLabels) && has(object.metadata.labels) && "
    "params.spec.target.matchLabels.all(k, k in object.metadata.labels && "
    "object.metadata.labels[k] == params.spec.target.matchLabels[k])"
)

# A write that pauses the Deployment itself is a person's pause, or an earlier one of ours: nothing to add. Where the
# write would resume it (`paused: false` together with a new template) it is held as well.
_PAUSE = f"""\
has(object.spec.paused) && object.spec.paused ? [] : [
  JSONPatch{{op: "add", path: "/spec/paused", value: true}},
  has(object.metadata.annotations)
    ? JSONPatch{{op: "add", path: "/metadata/annotations/" + jsonpatch.escapeKey("{names.PAUSED_BY}"), \
value: "{PAUSED_BY_GATE}"}}
    : JSONPatch{{op: "add", path: "/metadata/annotations", value: {{"{names.PAUSED_BY}": "{PAUSED_BY_GATE}"}}}}
]"""


def manifests(writer: str, only: str = "") -> list[dict[str, Any]]:
    """Both policies with their bindings. `writer` is the user who is let through: the controller, which puts a stable
    template back. `only` names the namespace in which the gate works; empty means all."""
    conditions = {
        "template-changed": _CHANGED,
        "by-somebody-else": f"request.userInfo.username != {_quoted(writer)}",
        "deployment-stays": _STAYS,
    }
    marked = {"objectSelector": {"matchExpressions": [{"key": MARK, "operator": "Exists"}]}}
    # Asking the policies costs about 0.3 ms for each policy of the namespace: only where there is no mark yet.
    unmarked = {"objectSelector": {"matchExpressions": [{"key": MARK, "operator": "DoesNotExist"}]}}
    by_policy = {"policy-stays": _POLICY_STAYS, "targeted": _TARGETED}
    params = {"apiVersion": API_VERSION, "kind": "ReleasePolicy"}
    return [
        _policy(NAME, "Ignore", unmarked, conditions | by_policy, {"paramKind": params}),
        _binding(NAME, only, {"paramRef": {"selector": {}, "parameterNotFoundAction": "Allow"}}),
        _policy(MARKED, "Fail", marked, conditions, {}),
        _binding(MARKED, only, {}),
    ]


def _quoted(text: str) -> str:
    """As a string of CEL, whose escapes include JSON's."""
    return msgspec.json.encode(text).decode()


def _policy(
    name: str, failure: str, constraints: dict[str, Any], conditions: dict[str, str], fields: dict[str, Any]
) -> dict[str, Any]:
    updates = {
        "apiGroups": ["apps"],
        "apiVersions": ["v1"],
        "resources": ["deployments"],
        "operations": ["UPDATE"],
    }
    spec = {
        **fields,
        "matchConstraints": {"resourceRules": [updates], **constraints},
        "matchConditions": [{"name": key, "expression": text} for key, text in conditions.items()],
        "failurePolicy": failure,
        # A webhook behind us may change the template, or take the pause away.
        "reinvocationPolicy": "IfNeeded",
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": _PAUSE}}],
    }
    return {"apiVersion": API, "kind": "MutatingAdmissionPolicy", "metadata": {"name": name}, "spec": spec}


def _binding(name: str, only: str, fields: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = {"policyName": name, **fields}
    if only:
        spec["matchResources"] = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": only}}}
    return {
        "apiVersion": API,
        "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": spec,
    }
