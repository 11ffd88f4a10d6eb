"""`python -m bench [writes|idle|burst|fleet|analysis|signals|simulate|effect ...]`: figures on a real control plane,
counted by the API server itself; those of `analysis` (the statistics), `signals` (reading metrics and logs) and
`simulate` from made-up traffic, those of `effect` (when a weight is seen in effect, and when it was) on the embedded
cluster with Traefik.

Each benchmark of the others starts a control plane of its own. Figures of other tools, measured once on the same
control plane (4 pods, nginx annotations, steps 10/50/100; 200 workloads), stand beside ours for comparison.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import time
from collections.abc import Sequence

from davylab import Lab

from bench import analysis, effect, signals, simulate, verdicts
from bench.lab import Audit, Controller, Json, davy, in_parallel, namespace, quantile, table, with_api, workload
from davylamp.core.actions import Patch, Ref
from davylamp.kube.errors import ApiError
from davylamp.kube.gate import MARK
from davylamp.kube.protocol import Api

NS = "bench"


def prepare(lab: Lab) -> None:
    davy(lab, "install")


def fill(lab: Lab, count: int, replicas: int, namespaces: Sequence[str] = (NS,)) -> None:
    """`count` workloads with policies, spread over the namespaces; waits until all their pods are available."""

    async def work(api: Api) -> None:
        for name in namespaces:
            await api.create(namespace(name))
        places = itertools.cycle(namespaces)
        made = [m for number in range(count) for m in workload(f"w{number:04}", next(places), replicas)]
        await in_parallel(api.create(manifest) for manifest in made)

    asyncio.run(with_api(lab, work))

    async def available(api: Api) -> bool:
        found = await api.list("Deployment")
        return bool(sum(d.status.available_replicas == replicas for d in found) == count)

    lab.wait(lambda: asyncio.run(with_api(lab, available)), 900, f"{count} Deployments available", every=1)


def writes() -> None:
    """One release, 4 pods, nginx annotations, steps 10/50/100: every request of the controller."""
    with Lab(traefik=True, audit=True) as lab:
        prepare(lab)
        manifests = workload("web", NS, 4, "hellok8s:v1", routed=True)
        manifests[0]["spec"]["template"]["spec"]["containers"][0]["readinessProbe"] = {
            "httpGet": {"path": "/healthz", "port": 8080}
        }
        manifests[-1]["spec"]["steps"] = [{"weight": 10, "hold": "2s"}, {"weight": 50, "hold": "2s"}, {"weight": 100}]
        manifests[-1]["spec"]["traffic"]["settle"] = "2s"
        controller = Controller(lab)
        lab.wait(controller.ready, 30, "the controller")

        async def create(api: Api) -> None:
            await api.create(namespace(NS))
            for manifest in manifests:
                await api.create(manifest)

        asyncio.run(with_api(lab, create))
        ready = (
            "-n",
            NS,
            "get",
            "releasepolicy",
            "web",
            "-o",
            'jsonpath={.status.conditions[?(@.type=="Ready")].status}',
        )
        available = ("-n", NS, "get", "deployment", "web", "-o", "jsonpath={.status.availableReplicas}")
        marked = ("-n", NS, "get", "deployments", "-l", MARK, "-o", "name")
        lab.wait(
            lambda: lab.kubectl(*ready) == "True" and lab.kubectl(*available) == "4" and lab.kubectl(*marked),
            60,
            "the policy, the pods and the gate's mark",
        )
        ours, everybody = Audit(lab), Audit(lab, None)
        lab.kubectl("-n", NS, "set", "image", "deployment/web", "main=hellok8s:v2")
        phase = ("-n", NS, "get", "releases", "-o", "jsonpath={.items[0].status.phase}")
        lab.wait(lambda: lab.kubectl(*phase) == "Completed", 120, "the release")
        written, read = ours.counts()
        started = everybody.counts()[0]["create pods"]
        controller.stop()
    events = written["create events"]
    total = written.total()
    table(
        "Writes of one release (4 pods, nginx annotations, steps 10/50/100), by the audit log",
        [
            ("", "writes", "of them Events", "reads outside watches", "pods started"),
            ("Davylamp", str(total), str(events), str(read.total()), str(started)),
            ("Argo Rollouts", "54", "15", "74", "4"),
            ("Flagger", "22", "", "149", "8"),
        ],
    )
    rows = [("write", "count"), *((what, str(count)) for what, count in sorted(written.items()))]
    table("Davylamp's writes", rows)
    if read:
        table("Davylamp's reads", [("read", "count"), *((what, str(count)) for what, count in sorted(read.items()))])


def idle() -> None:
    """200 workloads, nothing changing, for a minute."""
    with Lab(audit=True) as lab:
        prepare(lab)
        fill(lab, 200, 1)
        controller = Controller(lab)
        lab.wait(controller.ready, 60, "the controller")
        quiet(lab)
        audit, cpu = Audit(lab), controller.cpu()
        time.sleep(60)
        used = controller.cpu() - cpu
        written, read = audit.counts()
        memory = controller.memory()
        controller.stop()
    table(
        "Idle with 200 workloads, a minute",
        [
            ("", "requests", "CPU seconds", "resident MB"),
            ("Davylamp", str(written.total() + read.total()), f"{used:.2f}", f"{memory:.0f}"),
            ("Argo Rollouts", "0", "0.05", ""),
            ("Flagger", "6678", "3.6", ""),
        ],
    )


def quiet(lab: Lab) -> None:
    """Until the controller has asked nothing for five seconds."""

    def silent() -> bool:
        audit = Audit(lab)
        time.sleep(5)
        return not sum((c.total() for c in audit.counts()), 0)

    lab.wait(silent, 300, "the controller to be done")


def burst(count: int = 200) -> None:
    """200 templates changed within a second: how long until each has its canary's ReplicaSet; and how long a bare
    client with the same connection pool takes to create as many ReplicaSets."""
    with Lab() as lab:
        prepare(lab)
        fill(lab, count, 1)
        bare = asyncio.run(with_api(lab, lambda api: create_bare(api, count)))
        controller = Controller(lab)
        lab.wait(controller.ready, 60, "the controller")
        lab.wait(lambda: policies_ready(lab) == count, 120, "all policies ready")
        ours, changing = asyncio.run(with_api(lab, lambda api: change_all(api, count)))
        memory = controller.memory()
        controller.stop()
    table(
        f"{count} templates changed within {changing:.2f} s: seconds until the canary's ReplicaSet exists",
        [
            ("", "p50", "p99", "all"),
            ("Davylamp, since each change", *(f"{quantile(ours, q):.2f}" for q in (0.5, 0.99, 1.0))),
            ("bare client creating them, since its start", *(f"{quantile(bare, q):.2f}" for q in (0.5, 0.99, 1.0))),
            ("Argo Rollouts", "5.3", "12.8", ""),
            ("Flagger", "25", "28", ""),
        ],
    )
    print(f"\nratio of p99: {quantile(ours, 0.99) / quantile(bare, 0.99):.2f}; resident {memory:.0f} MB")


def policies_ready(lab: Lab) -> int:
    """Policies that are found good, with the mark of the gate on their Deployments; 0 while the server is too busy to
    answer."""

    async def count(api: Api) -> int:
        try:
            found = await api.list("ReleasePolicy")
            marked = await api.list("Deployment", labels=MARK)
        except ApiError:
            return 0
        ready = sum(any(c.type == "Ready" and c.status == "True" for c in p.status.conditions) for p in found)
        return min(ready, len(marked))

    return asyncio.run(with_api(lab, count))


async def create_bare(api: Api, count: int) -> list[float]:
    """Seconds from the start until each of `count` ReplicaSets (without pods) was created."""
    began = time.perf_counter()

    async def one(number: int) -> float:
        labels = {"bare": f"r{number}"}
        manifest: Json = {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {"name": f"bare-{number}", "namespace": NS, "labels": labels},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"containers": [{"name": "main", "image": "pause:1"}]},
                },
            },
        }
        await api.create(manifest)
        return time.perf_counter() - began

    return await in_parallel((one(number) for number in range(count)), 8)


async def change_all(api: Api, count: int) -> tuple[list[float], float]:
    """Change every template as fast as it goes; seconds from each change to its canary's ReplicaSet."""
    exists: dict[str, float] = {}
    changed: dict[str, float] = {}
    known = {rs.metadata.name for rs in await api.list("ReplicaSet", NS)}
    complete = asyncio.Event()

    async def watch() -> None:
        async for event in api.watch("ReplicaSet", NS):
            meta = event.object.metadata if event.object else None
            owner = meta.controller if meta else None
            if (
                meta
                and event.type == "ADDED"
                and owner is not None
                and owner.kind == "Release"
                and meta.name not in known
            ):
                exists.setdefault(meta.name.rsplit("-", 2)[0], time.perf_counter())
            if len(exists) == count:
                complete.set()
                return

    watching = asyncio.create_task(watch())

    async def one(number: int) -> None:
        name = f"w{number:04}"
        containers = [{"name": "main", "image": "pause:2"}]
        patch = [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": containers[0]["image"]}]
        changed[name] = time.perf_counter()
        await api.patch(Patch(Ref("Deployment", NS, name), patch, type="json"))

    began = time.perf_counter()
    await in_parallel((one(number) for number in range(count)), 16)
    changing = time.perf_counter() - began
    await asyncio.wait_for(complete.wait(), 120)
    await watching
    return [exists[name] - changed[name] for name in changed], changing


def fleet(count: int = 5000) -> None:
    """5,000 policies in 50 namespaces with their Deployments, ReplicaSets and Services, scaled to 0: pods are not what
    is measured."""
    with Lab() as lab:
        prepare(lab)
        fill(lab, count, 0, [f"{NS}-{number}" for number in range(50)])
        first = Controller(lab)
        lab.wait(first.ready, 120, "the controller")
        began = time.monotonic()
        lab.wait(lambda: policies_ready(lab) == count, 900, "all policies ready", every=5)
        marked = time.monotonic() - began
        first.stop()
        controller = Controller(lab)
        lab.wait(controller.ready, 120, "the controller again")
        synced = time.monotonic() - controller.began
        cpu = controller.cpu()
        time.sleep(30)
        idle_cpu = (controller.cpu() - cpu) / 30
        memory = controller.memory()
        controller.stop()
    table(
        f"{count} policies",
        [
            ("all checked and marked, once", "in sync after a restart", "resident MB", "idle, share of a core"),
            (f"{marked:.0f} s", f"{synced:.1f} s", f"{memory:.0f}", f"{100 * idle_cpu:.2f} %"),
        ],
    )


ALL = {"writes": writes, "idle": idle, "burst": burst, "fleet": fleet}
OTHERS = ("analysis", "signals", "verdicts", "simulate", "effect")


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", nargs="*", choices=[*ALL, *OTHERS, []], help="all of them if none is named")
    parser.add_argument(
        "--runs", type=int, help="releases for each figure: of analysis (default: 2000), of simulate (default: 1000)"
    )
    parser.add_argument("--quick", action="store_true", help="200 of them; 100 runs of simulate")
    given = parser.parse_args()
    for name in given.what or [*ALL, *OTHERS]:
        if name == "analysis":
            analysis.run(given.runs or 2000, given.quick)
        elif name == "signals":
            signals.run()
        elif name == "verdicts":
            verdicts.run()
        elif name == "simulate":
            simulate.run(given.runs or (100 if given.quick else 1000))
        elif name == "effect":
            effect.run()
        else:
            ALL[name]()


if __name__ == "__main__":
    main()
