"""What the demo plays: the objects of a shop, its policy, and the scenes with what each should end in."""

from __future__ import annotations

import msgspec
import yaml

from davylamp.api.types import Phase
from davylamp.view.model import WorkloadView

NAMESPACE, NAME, HOST = "shop", "web", "shop.example"
REPLICAS = 4
STABLE = "hellok8s:v1"


class Pace(msgspec.Struct, frozen=True):
    """How long things last, in whole seconds, and how many requests a second there are."""

    settle: int = 3
    """How long the route is given to take effect: Traefik needs up to its throttle."""
    holds: tuple[int, int, int] = (5, 5, 3)
    """Of the steps 10, 50 and 100 %."""
    linger: float = 2.0
    """How long the end of each scene is shown."""
    rps: float = 150.0


class Scene(msgspec.Struct, frozen=True):
    """One thing that happens, what a person types for it, and how it should end."""

    title: str
    image: str
    end: Phase | None
    """None where no release belongs to it."""

    @property
    def version(self) -> str:
        """As the pods of this image name themselves in their answers."""
        return self.image.partition(":")[2]

    @property
    def command(self) -> str:
        if self.end is None:
            return "kubectl apply -f shop.yaml -f policy.yaml"
        return f"kubectl set image deployment/{NAME} hellok8s={self.image} -n {NAMESPACE}"


SCENES = (
    Scene("a shop, with users", STABLE, None),
    Scene("a good version", "hellok8s:v2", Phase.COMPLETED),
    Scene("a broken version", "hellok8s:v3-crash", Phase.ROLLED_BACK),
)

SHOP = f"""
apiVersion: v1
kind: Namespace
metadata: {{name: {NAMESPACE}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {NAME}, namespace: {NAMESPACE}}}
spec:
  replicas: {REPLICAS}
  selector: {{matchLabels: {{app: {NAME}}}}}
  template:
    metadata: {{labels: {{app: {NAME}}}}}
    spec:
      containers:
        - name: hellok8s
          image: {STABLE}
          env: [{{name: ACCESS_LOG, value: "off"}}]
          readinessProbe: {{httpGet: {{path: /healthz, port: 8080}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: {NAME}, namespace: {NAMESPACE}}}
spec:
  selector: {{app: {NAME}}}
  ports: [{{port: 80, targetPort: 8080}}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: {NAME}, namespace: {NAMESPACE}}}
spec:
  ingressClassName: nginx
  rules:
    - host: {HOST}
      http:
        paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: {NAME}, port: {{number: 80}}}}}}}}]
"""


def policy(pace: Pace) -> str:
    """The ReleasePolicy as YAML."""
    spec = {
        "target": {"name": NAME},
        "traffic": {"service": NAME, "routes": [{"ingress": {"name": NAME}}], "settle": f"{pace.settle}s"},
        "steps": [
            {"weight": weight, "hold": f"{hold}s"} for weight, hold in zip((10, 50, 100), pace.holds, strict=True)
        ],
    }
    manifest = {
        "apiVersion": "davylamp.dev/v1alpha1",
        "kind": "ReleasePolicy",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": spec,
    }
    return yaml.safe_dump(manifest, sort_keys=False)


def narration(scene: Scene, view: WorkloadView) -> str:
    """What happens, and what a person could do about it, in a sentence or two. Commands are in backticks."""
    new, old = scene.version, STABLE.partition(":")[2]
    match view.state:
        case "Starting":
            return f"The change of the template paused the Deployment in that very write: no pod of {new} has started."
        case "Pending" | "Progressing":
            return _in_step(view, new, old)
        case "Promoting":
            return f"The pods of {new} become the Deployment's own: none is restarted, nothing rolls a second time."
        case "RollingBack":
            return f"{new} is broken: it is taken back."
        case "Held":
            return f"{new} was taken back and stays away, also if it is applied again. `davy retry {NAME}` would try."
        case "Stable" if scene.end is Phase.COMPLETED:
            return f"Everybody has {new}, and the pods that were tried are the ones that stay."
    return f"{REPLICAS} pods of an ordinary Deployment behind an Ingress, and requests that nobody repeats."


def _in_step(view: WorkloadView, new: str, old: str) -> str:
    asked = view.weight.asked if view.weight is not None else 0
    if view.canary is None or view.canary.ready < view.canary.wanted or not view.canary.wanted:
        return f"Pods of {new} start beside those of {old}. Nobody reaches them before they are ready."
    if asked < 100:
        return f"{asked} % of the requests for {new}. `davy abort {NAME}` would take it back at once."
    return f"All requests for {new}; the pods of {old} still run, in case."
