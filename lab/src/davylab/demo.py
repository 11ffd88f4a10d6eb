"""`python -m davylab.demo`: the main job of Davylamp, shown on a real control plane.

hellok8s v1 behind an Ingress, with traffic; `kubectl set image` to v2 goes 10 -> 50 -> 100 %; then a v3 that can't
start is caught and taken back. Beside the weight that was asked for stands the split that clients saw.
Everything runs inside a network namespace of its own. Exit code 1 where a request was lost or a release went wrong.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from davylamp.embedded.load import Counts, Load
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from davylab.lab import Lab

RPS = 120
REPORT = 1.0
PLAIN_EVERY = 2.0
GOOD, BROKEN = "hellok8s:v2", "hellok8s:v3-crash"

SHOP = """
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 4
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
        - name: hellok8s
          image: hellok8s:v1
          env: [{name: ACCESS_LOG, value: "off"}]
          readinessProbe: {httpGet: {path: /healthz, port: 8080}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: shop}
spec:
  ingressClassName: nginx
  rules:
    - host: shop.example
      http:
        paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]
"""
POLICY = """
apiVersion: davylamp.dev/v1alpha1
kind: ReleasePolicy
metadata: {name: web, namespace: shop}
spec:
  target: {name: web}
  traffic:
    service: web
    routes: [{ingress: {name: web}}]
    settle: 3s
  steps:
    - {weight: 10, hold: 5s}
    - {weight: 50, hold: 5s}
    - {weight: 100, hold: 3s}
"""
ENDS = ("Completed", "RolledBack", "Superseded", "Withdrawn", "Overridden")


def davy(lab: Lab, *args: str) -> str:
    """stdout of the command `davy`, as admin; on failure its words are ours."""
    command = [str(Path(sys.executable).with_name("davy")), *args, "--kubeconfig", str(lab.kubeconfig)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"`davy {' '.join(args)}` failed: {done.stderr.strip()}")
    return done.stdout


def set_up(lab: Lab, console: Console) -> None:
    say(console, "$ davy install")
    davy(lab, "install")
    lab.kubectl("apply", "-f", "-", input=SHOP)
    log = (lab.state / "controller.log").open("wb")
    lab.spawn(
        [Path(sys.executable).with_name("davy"), "controller", "--listen", "127.0.0.1:0"],
        kubeconfig=lab.kubeconfig_of("davylamp", inside=True),
        stdout=log,
        stderr=log,
    )
    lab.wait(lambda: available(lab) == 4, 60, "four pods of hellok8s:v1")
    say(console, "$ kubectl apply -f policy.yaml        # 10 % for 5 s, 50 % for 5 s, 100 % for 3 s")
    lab.kubectl("apply", "-f", "-", input=POLICY)
    lab.kubectl("wait", "-n", "shop", "--for=condition=Ready", "releasepolicy/web", "--timeout=30s")


def available(lab: Lab) -> int:
    found = lab.kubectl("get", "deployment", "web", "-n", "shop", "-o", "jsonpath={.status.availableReplicas}")
    return int(found or 0)


def release(lab: Lab, image: str) -> dict[str, Any]:
    """The newest Release of `image` (nothing yet: empty), with the weight that the objects ask for as `asked`."""
    found = json.loads(lab.kubectl("get", "releases,ingresses,services", "-n", "shop", "-o", "json"))["items"]
    mine = [item for item in found if item["kind"] == "Release" and item["spec"]["canary"].get("image") == image]
    if not mine:
        return {}
    newest: dict[str, Any] = mine[-1]
    return newest | {"asked": asked(newest, found)}


def asked(newest: dict[str, Any], objects: list[dict[str, Any]]) -> float:
    """100 where the Service itself selects the canary's pods, else what the canary Ingress says."""
    if newest.get("status", {}).get("phase") == "Completed":
        return 100.0
    weight = 0.0
    for item in objects:
        annotations = item["metadata"].get("annotations", {})
        weight = float(annotations.get("nginx.ingress.kubernetes.io/canary-weight", weight))
        selector = item["spec"].get("selector", {})
        if item["metadata"]["name"] == "web" and selector.get("pod-template-hash") == newest["spec"]["canary"]["hash"]:
            return 100.0
    return weight


def say(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def show(lab: Lab, console: Console, load: Load, image: str) -> dict[str, Any]:
    """Set the image and show the release until its end, live on a terminal, as lines elsewhere."""
    say(console, f"\n$ kubectl set image deployment/web hellok8s={image}")
    lab.kubectl("set", "image", "-n", "shop", "deployment/web", f"hellok8s={image}")
    began = time.monotonic()
    now: dict[str, Any] = {}
    if console.is_terminal:
        with Live(console=console, refresh_per_second=8) as live:
            for now, split in looks(lab, load, image):
                live.update(picture(now, split, image, time.monotonic() - began))
    else:
        shown, last = 0.0, ""
        for now, split in looks(lab, load, image):
            status = now.get("status", {})
            what = f"{status.get('phase')} {status.get('step')}"
            if what != last or time.monotonic() - shown >= PLAIN_EVERY:
                shown, last = time.monotonic(), what
                say(console, line(now, split, image, time.monotonic() - began))
    status = now["status"]
    say(console, f"  {status['phase']} after {time.monotonic() - began:.1f} s: {status.get('message', '')}")
    return now


def looks(lab: Lab, load: Load, image: str) -> Iterator[tuple[dict[str, Any], Counts]]:
    """The release and the requests of the last second, again and again until the release has ended."""
    earlier = load.snapshot()
    while True:
        time.sleep(0.4)
        now = release(lab, image)
        counts = load.snapshot()
        if counts.t - earlier.t >= REPORT or now.get("status", {}).get("phase") in ENDS:
            split = counts.minus(earlier)
            earlier = counts
            yield now, split
            if now.get("status", {}).get("phase") in ENDS:
                return


def version(image: str) -> str:
    return image.partition(":")[2]


def line(now: dict[str, Any], split: Counts, image: str, elapsed: float) -> str:
    status = now.get("status", {})
    seen = 100 * split.share(version(image))
    return (
        f"  {elapsed:5.1f} s  {status.get('phase', 'Pending'):<12} step {status.get('step', 0)}"
        f"  asked {now.get('asked', 0):5.1f} %  seen {seen:5.1f} % of {split.answered:>4} requests  lost {split.lost}"
    )


def picture(now: dict[str, Any], split: Counts, image: str, elapsed: float) -> Table:
    status = now.get("status", {})
    seen = 100 * split.share(version(image))
    table = Table.grid(padding=(0, 2))
    table.add_row("release", f"{status.get('phase', 'Pending')}, step {status.get('step', 0)} of 3", f"{elapsed:.0f} s")
    table.add_row("asked", bar(now.get("asked", 0), "cyan"), f"{now.get('asked', 0):.1f} %")
    table.add_row("seen", bar(seen, "green"), f"{seen:.1f} % of {split.answered} requests in the last second")
    table.add_row("lost", Text(str(split.lost), style="bold red" if split.lost else "green"), "")
    return table


def bar(percent: float, colour: str) -> Text:
    filled = round(percent / 2.5)
    return Text("█" * filled, style=colour) + Text("░" * (40 - filled), style="dim")


def main() -> None:
    parser = argparse.ArgumentParser(prog="demo", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--keep", action="store_true", help="leave everything running, and say how to play on")
    keep = parser.parse_args().keep
    console = Console()
    state = Path(".lab").resolve() if keep else None
    say(
        console,
        "A real control plane (etcd, API server, controllers, Traefik) starts in a network namespace ...",
    )
    with Lab(traefik=True, state=state) as lab:
        try:
            wrong = run(lab, console)
        except KeyboardInterrupt:
            raise SystemExit(130) from None
        if keep:
            stay(lab, console)
    raise SystemExit(wrong)


def run(lab: Lab, console: Console) -> int:
    set_up(lab, console)
    load = Load(lab, host="shop.example", rps=RPS)
    lab.wait(lambda: load.snapshot().by_version["v1"] > RPS, 30, "requests answered by v1")
    good = show(lab, console, load, GOOD)
    bad = show(lab, console, load, BROKEN)
    say(console, f"\n$ davy status web -n shop\n{davy(lab, 'status', 'web', '-n', 'shop').rstrip()}\n")
    summary = load.stop()
    by_version = ", ".join(f"{name} {count}" for name, count in sorted(summary.by_version.items()))
    say(console, f"{summary.sent} requests ({by_version}): {summary.lost} lost, {summary.failed} failed")
    ends = (good["status"]["phase"], bad["status"]["phase"])
    return 0 if ends == ("Completed", "RolledBack") and not (summary.lost or summary.failed) else 1


def stay(lab: Lab, console: Console) -> None:
    say(
        console,
        f"\nStill running. In another shell:\n  export KUBECONFIG={lab.kubeconfig}\n"
        f"  kubectl get pods -n shop; davy status -n shop\n"
        f"  curl -H 'Host: shop.example' {lab.traefik_url}\nCtrl-C ends it.",
    )
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        say(console, "ending")


if __name__ == "__main__":
    main()
