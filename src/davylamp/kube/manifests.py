"""What `davy install` puts into a cluster, as manifests: namespace, CRDs, rights, gate, and the controller if asked."""

from __future__ import annotations

from typing import Any

import msgspec

from davylamp.api import GROUP
from davylamp.api.crd import as_yaml, crds
from davylamp.core.world import Gate
from davylamp.kube import gate

Manifest = dict[str, Any]

NAME = "davylamp"
NAMESPACE = "davylamp-system"
INSTALLED = {"app.kubernetes.io/managed-by": "davy-install"}
"""The label by which `davy install` and `davy uninstall` know what is theirs."""
PORT = 8080
"""Where the controller answers /healthz, /readyz and /metrics in its pod."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What may differ between installations."""

    namespace: str = NAMESPACE
    """Where the controller, its service account and its Lease live."""
    only: str = ""
    """The only namespace in which Davylamp may do anything; empty for all of them."""
    gate: Gate = "admission"
    writer: str = ""
    """As whom the controller writes, and whom the gate therefore lets through. Default: its service account."""
    image: str = ""
    """The controller's image; empty leaves the controller itself out (it also runs as `davy controller`)."""
    args: tuple[str, ...] = ()
    """More options of `davy controller`."""

    @property
    def user(self) -> str:
        return self.writer or f"system:serviceaccount:{self.namespace}:{NAME}"


def manifests(options: Options) -> list[Manifest]:
    """Everything, in the order in which it should be applied."""
    found = [
        _object("v1", "Namespace", options.namespace),
        *crds(),
        _object("v1", "ServiceAccount", NAME, options.namespace),
        *_controller_rights(options),
        *_people_rights(),
    ]
    if options.gate == "admission":
        found += gate.manifests(options.user, options.only)
    if options.image:
        found.append(_deployment(options))
    return [_labelled(manifest) for manifest in found]


def document(options: Options) -> str:
    """The manifests as one file, for GitOps; with the default options the text of deploy/install.yaml."""
    return f"# All that `davy install` applies, as `davy install --print` prints it.\n{as_yaml(manifests(options))}"


def _object(api_version: str, kind: str, name: str, namespace: str = "", **fields: Any) -> Manifest:
    meta = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": api_version, "kind": kind, "metadata": meta, **fields}


def _labelled(manifest: Manifest) -> Manifest:
    meta = manifest["metadata"]
    labels = {"app.kubernetes.io/name": NAME, **INSTALLED, **meta.get("labels", {})}
    return {**manifest, "metadata": {**meta, "labels": labels}}


# --- rights ---

RBAC = "rbac.authorization.k8s.io"
_V1 = f"{RBAC}/v1"
WATCH = ["list", "watch"]
LOOK = ["get", *WATCH]


def _rule(group: str, resources: str, verbs: list[str]) -> Manifest:
    return {"apiGroups": [group], "resources": resources.split(), "verbs": verbs}


IN_NAMESPACES = [
    _rule(GROUP, "releasepolicies", [*WATCH, "patch"]),
    _rule(GROUP, "releasepolicies/status releases/status", ["patch"]),
    _rule("apps", "deployments", [*WATCH, "patch"]),
    # What is created is read where it turns out to exist: ours from before a crash, or somebody else's?
    _rule(GROUP, "releases", [*LOOK, "create", "patch", "delete"]),
    _rule("apps", "replicasets", [*LOOK, "create", "patch", "delete"]),
    _rule("", "services", [*LOOK, "create", "patch", "delete"]),
    _rule("networking.k8s.io", "ingresses", [*LOOK, "create", "patch", "delete"]),
    _rule("gateway.networking.k8s.io", "httproutes grpcroutes", [*LOOK, "patch"]),
    _rule("networking.istio.io", "virtualservices", [*LOOK, "patch"]),
    _rule("networking.istio.io", "destinationrules", [*LOOK, "create", "patch", "delete"]),
    _rule("discovery.k8s.io", "endpointslices", WATCH),
    _rule("", "pods", WATCH),
    _rule("", "pods/log", ["get"]),
    _rule("batch", "jobs", ["get", "create"]),
    _rule("events.k8s.io", "events", ["create"]),
    # Where the plugin OwnerReferencesPermissionEnforcement is on (OpenShift), an ownerReference that blocks its
    # owner's deletion may be set only by who may update the owner's finalizers. Of Releases, ReplicaSets and the
    # canary's objects, the owners are these.
    _rule(GROUP, "releasepolicies/finalizers releases/finalizers", ["update"]),
    _rule("apps", "deployments/finalizers", ["update"]),
    _rule("", "services/finalizers", ["update"]),
]
"""What the controller does in each namespace, and nothing else."""
CLUSTER_WIDE = [
    _rule("networking.k8s.io", "ingressclasses", WATCH),
    _rule("gateway.networking.k8s.io", "gatewayclasses", WATCH),
]
"""What it reads that belongs to no namespace."""
LEASES = [_rule("coordination.k8s.io", "leases", ["get", "create", "patch"])]
"""Leader election, in its own namespace."""


def _controller_rights(options: Options) -> list[Manifest]:
    leader, cluster = f"{NAME}-leader", f"{NAME}-cluster"
    rights = [
        _object(_V1, "ClusterRole", NAME, rules=IN_NAMESPACES),
        _object(_V1, "ClusterRole", cluster, rules=CLUSTER_WIDE),
        _binding(options, "ClusterRoleBinding", cluster, "ClusterRole"),
        _object(_V1, "Role", leader, options.namespace, rules=LEASES),
        _binding(options, "RoleBinding", leader, "Role", options.namespace),
    ]
    kind = "RoleBinding" if options.only else "ClusterRoleBinding"
    return [*rights, _binding(options, kind, NAME, "ClusterRole", options.only)]


def _binding(options: Options, kind: str, name: str, role_kind: str, namespace: str = "") -> Manifest:
    """Gives the role of the same name to the controller."""
    account = {"kind": "ServiceAccount", "name": NAME, "namespace": options.namespace}
    role = {"apiGroup": RBAC, "kind": role_kind, "name": name}
    return _object(_V1, kind, name, namespace, roleRef=role, subjects=[account])


def _people_rights() -> list[Manifest]:
    """Whoever may view or edit a namespace may do so with our kinds, by way of the roles that Kubernetes has."""
    view = [_rule(GROUP, "releasepolicies releases", LOOK)]
    edit = [
        _rule(GROUP, "releasepolicies", ["create", "update", "patch", "delete", "deletecollection"]),
        _rule(GROUP, "releases", ["patch", "delete"]),
    ]
    made = []
    for name, rules in (("view", view), ("edit", edit)):
        role = _object(_V1, "ClusterRole", f"{NAME}-{name}", rules=rules)
        into = ("view",) if name == "view" else ("edit", "admin")
        role["metadata"]["labels"] = {f"{RBAC}/aggregate-to-{target}": "true" for target in into}
        made.append(role)
    return made


# --- the controller ---


def _deployment(options: Options) -> Manifest:
    labels = {"app.kubernetes.io/name": NAME, "app.kubernetes.io/component": "controller"}
    args = ["controller", "--leader-elect", "--log-format=json", f"--listen=0.0.0.0:{PORT}"]
    args += [f"--lease-namespace={options.namespace}"] if options.namespace != NAMESPACE else []
    args += [f"--namespace={options.only}"] if options.only else []
    args += ["--gate=fallback"] if options.gate == "fallback" else []
    args += options.args

    def probe(path: str) -> Manifest:
        return {"httpGet": {"path": path, "port": "http"}, "periodSeconds": 5}

    container = {
        "name": "controller",
        "image": options.image,
        "args": args,
        "ports": [{"name": "http", "containerPort": PORT}],
        "livenessProbe": probe("/healthz") | {"initialDelaySeconds": 10, "failureThreshold": 6},
        "readinessProbe": probe("/readyz"),
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    pod = {
        "serviceAccountName": NAME,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
    }
    spec = {
        "replicas": 1,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    made = _object("apps/v1", "Deployment", NAME, options.namespace, spec=spec)
    made["metadata"]["labels"] = labels
    return made
