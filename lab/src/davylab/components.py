"""What runs in a lab: each child's command, from what `davylab up` was asked for."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import yaml

from davylab import istio, traefik
from davylab.binaries import Binaries
from davylab.identity import API_PORT, ISTIOD, TRAEFIK, Paths, User
from davylab.namespace import API_ADDRESS, SERVICE_NETWORK


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What `davylab up` was asked for."""

    state: Path
    traefik: bool = False
    gateway: bool = False
    istio: bool = False
    throttle: float | None = None  # seconds; None leaves Traefik's own default
    mutating_policies: bool = True  # False: an API server without MutatingAdmissionPolicy, as before Kubernetes 1.36
    nodes: int = 1
    audit: bool = False
    users: tuple[User, ...] = ()
    restart_cap: float = 10.0
    end_with_stdin: bool = False
    temporary: bool = False  # with end_with_stdin: the state folder then goes too


class Component(msgspec.Struct, frozen=True):
    """One child: its name is that of its log."""

    name: str
    command: list[str]
    env: dict[str, str] = {}


def components(options: Options, paths: Paths, found: Binaries) -> list[Component]:
    admin = str(paths.kubeconfig(inside=True))
    kubelet = [sys.executable, "-m", "davylab.kubelet", "--state", str(paths.root)]
    kubelet += ["--nodes", str(options.nodes), "--restart-cap", str(options.restart_cap)]
    children = [
        Component("etcd", _etcd(found, paths)),
        Component("kube-apiserver", _apiserver(options, found, paths)),
        Component("kube-controller-manager", _controller_manager(found, paths, admin)),
        Component("kube-scheduler", _scheduler(found, paths, admin)),
        Component("kubelet", kubelet),
    ]
    if options.traefik or options.gateway:
        kubeconfig = str(paths.kubeconfig(TRAEFIK, inside=True))
        command = traefik.command(throttle=options.throttle, gateway=options.gateway)
        children.append(Component("traefik", command, {"KUBECONFIG": kubeconfig}))
    if options.istio:
        children.append(Component("istiod", *istio.istiod(paths.root, paths.kubeconfig(ISTIOD, inside=True))))
        children.append(Component("envoy-gateway", istio.envoy(paths.root, "gateway")))
        children.append(Component("envoy-sidecar", istio.envoy(paths.root, "sidecar")))
    return children


def _etcd(found: Binaries, paths: Paths) -> list[str]:
    client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
    return [
        str(found.etcd),
        f"--data-dir={paths.root / 'etcd'}",
        "--unsafe-no-fsync",
        "--log-level=warn",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--quota-backend-bytes=8589934592",
    ]


def _apiserver(options: Options, found: Binaries, paths: Paths) -> list[str]:
    command = [
        str(found.apiserver),
        "--etcd-servers=http://127.0.0.1:2379",
        f"--cert-dir={paths.root / 'pki'}",
        f"--tls-cert-file={paths.certificate}",
        f"--tls-private-key-file={paths.key}",
        f"--secure-port={API_PORT}",
        "--bind-address=0.0.0.0",
        f"--advertise-address={API_ADDRESS}",
        f"--service-cluster-ip-range={SERVICE_NETWORK}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={paths.service_account_key}",
        f"--service-account-signing-key-file={paths.service_account_key}",
        f"--token-auth-file={paths.tokens}",
        "--authorization-mode=RBAC",
        "--allow-privileged",
        "--kubelet-preferred-address-types=InternalIP",
        # ServiceAccount would mount tokens, for which pods here have no file system.
        f"--disable-admission-plugins=ServiceAccount{'' if options.mutating_policies else ',MutatingAdmissionPolicy'}",
        # Nothing in a lab is to wait for its turn: what is measured is the client.
        "--enable-priority-and-fairness=false",
        "--max-requests-inflight=3000",
        "--max-mutating-requests-inflight=1000",
        "--profiling=false",
    ]
    if not options.mutating_policies:
        v1 = "admissionregistration.k8s.io/v1/mutatingadmissionpolic"
        command.append(f"--runtime-config={v1}ies=false,{v1}ybindings=false")
    if options.audit:
        policy = paths.root / "audit-policy.yaml"
        policy.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "audit.k8s.io/v1",
                    "kind": "Policy",
                    "omitStages": ["RequestReceived"],
                    "rules": [{"level": "Metadata"}],
                }
            )
        )
        command += [f"--audit-policy-file={policy}", f"--audit-log-path={paths.logs / 'audit.log'}"]
    return command


def _controller_manager(found: Binaries, paths: Paths, kubeconfig: str) -> list[str]:
    # The defaults (20 requests a second, 5 workers) make a bench measure the controller manager's throttle.
    workers = {"deployment": 20, "replicaset": 20, "service-endpoint": 20, "endpoint": 20, "gc": 20}
    return [
        str(found.controller_manager),
        f"--kubeconfig={kubeconfig}",
        f"--cert-dir={paths.root / 'pki'}",
        "--leader-elect=false",
        # No kubelet renews leases here, so the node lifecycle controller would evict everything.
        "--controllers=*,-nodeipam,-node-lifecycle-controller",
        f"--service-account-private-key-file={paths.service_account_key}",
        f"--root-ca-file={paths.certificate}",
        "--kube-api-qps=2000",
        "--kube-api-burst=4000",
        *(f"--concurrent-{kind}-syncs={count}" for kind, count in workers.items()),
        "--profiling=false",
    ]


def _scheduler(found: Binaries, paths: Paths, kubeconfig: str) -> list[str]:
    config = paths.root / "scheduler.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "kubescheduler.config.k8s.io/v1",
                "kind": "KubeSchedulerConfiguration",
                "clientConnection": {"kubeconfig": kubeconfig, "qps": 2000, "burst": 4000},
                "leaderElection": {"leaderElect": False},
                "enableProfiling": False,
            }
        )
    )
    return [str(found.scheduler), f"--config={config}", f"--cert-dir={paths.root / 'pki'}"]
