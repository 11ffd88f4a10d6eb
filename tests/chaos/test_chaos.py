"""People, the API server, pods and controllers do anything in any order; what must hold, holds.

`make test` runs a bounded, repeatable number of stories; `make soak` (CHAOS_EXAMPLES, CHAOS_STEPS) as many as wanted,
each time others. A story that fails is shrunk, and becomes a test of its own in `test_stories.py`.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from davylamp.core.actions import Ref
from tests.chaos.faulty import Fault, Slow
from tests.chaos.invariants import Watchman
from tests.chaos.shop import BAD, GOOD, V1, Shop
from tests.chaos.story import FAULTS, Story, told
from tests.kube.controllers import NAMESPACE, deployment, ingress, policy, service

STEPS = st.sampled_from(
    [
        [{"weight": 10, "hold": "30s"}, {"weight": 50, "hold": "30s"}, {"weight": 100, "hold": "30s"}],
        [{"weight": 20, "approve": True}, {"weight": 100}],
        [{"weight": 50}],
        [{"weight": 0, "replicas": 1, "hold": "20s"}, {"weight": 100, "approve": True}],
    ]
)
BLUE_GREEN: dict[str, Any] = {
    "steps": [{"weight": 0, "replicas": "100%", "hold": "20s"}, {"weight": 100, "hold": "30s"}],
    "traffic": {"service": "web", "preview": {"service": "preview"}},
}


class Chaos(Story):
    @initialize(
        steps=STEPS,
        way=st.sampled_from(["ingress", "httpRoute", "virtualService", "pod ratio", "blue/green"]),
        keep=st.sampled_from(["", "40s"]),
        failure=st.sampled_from(["hold", "revert"]),
        extra=st.sampled_from([1, "100%"]),
    )
    def open(self, steps: list[dict[str, Any]], way: str, keep: str, failure: str, extra: int | str) -> None:
        self.routed = way in ("ingress", "httpRoute", "virtualService")
        traffic: dict[str, Any] = {"service": "web"}
        if self.routed:
            traffic |= {"routes": [{way: {"name": "web"}}], "settle": "2s"}
        spec: dict[str, Any] = {"steps": self._possible(steps), "onFailure": failure, "maxExtraPods": extra}
        spec |= {"progressDeadline": "60s"}
        self.spec = spec | {"traffic": traffic}
        if way == "blue/green":
            self.spec |= BLUE_GREEN | {"maxExtraPods": "100%"}
        if keep and self.spec["maxExtraPods"] == "100%":
            self.spec |= {"keepOld": keep}
        self.replicas = 4
        self.run(self.shop.open(self.replicas, **self.spec))
        self.watchman = Watchman(self.shop)
        self.controller()
        self.wait(5)

    def _possible(self, steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Without routes there is no weight 0, and nothing to wait for at 100."""
        if self.routed:
            return steps
        return [step if step["weight"] < 100 else {"weight": 100} for step in steps if step["weight"] > 0]

    # --- people ---

    @rule(image=st.sampled_from([*GOOD, *BAD]))
    def set_image(self, image: str) -> None:
        self.do(lambda: self.shop.set_image(image))

    @rule(replicas=st.integers(1, 6))
    def scale(self, replicas: int) -> None:
        self.watchman.disturb()
        self.replicas = replicas
        self.do(lambda: self.shop.change("Deployment", "web", {"spec": {"replicas": replicas}}))

    @rule(
        fields=st.sampled_from(
            [
                {"abort": {"by": "a test"}},
                {"promote": {"by": "a test"}},
                {"retry": {"by": "a test"}},
                {"paused": {"by": "a test"}},
                {"paused": None},
                {"approved": {"step": 1}},
                {"approved": {"step": 3}},
            ]
        )
    )
    def say(self, fields: dict[str, Any]) -> None:
        self.do(lambda: self.shop.command(**fields))

    @rule(steps=STEPS)
    def edit_policy(self, steps: list[dict[str, Any]]) -> None:
        self.do(lambda: self.shop.change("ReleasePolicy", "web", {"spec": {"steps": self._possible(steps)}}))

    @rule()
    def resume(self) -> None:
        """`kubectl rollout resume`. Kubernetes then rolls by itself, whatever becomes of the Service meanwhile."""
        self.watchman.disturb()
        self.do(lambda: self.shop.change("Deployment", "web", {"spec": {"paused": False}}))

    @rule()
    def undo(self) -> None:
        """`kubectl rollout undo`, which kubectl refuses where the Deployment is paused."""
        self.do(self.shop.undo)

    @rule(kind=st.sampled_from(["Release", "ReleasePolicy", "Ingress", "Service", "ReplicaSet"]))
    def delete_one_of_ours(self, kind: str) -> None:
        self.watchman.disturb()
        mine = [obj for obj in self.shop.list(kind) if obj["metadata"]["name"] != "web" or kind == "ReleasePolicy"]
        if kind == "ReplicaSet":
            mine = [rs for rs in mine if any(o["kind"] == "Release" for o in rs["metadata"].get("ownerReferences", []))]
        for obj in mine[-1:]:
            self.do(self.shop.store.delete, kind, NAMESPACE, obj["metadata"]["name"])

    @rule(kind=st.sampled_from(["Deployment", "Service", "Ingress"]))
    def delete_one_of_theirs(self, kind: str) -> None:
        self.watchman.disturb()
        self.do(self.shop.store.delete, kind, NAMESPACE, "web")

    @rule()
    def put_what_is_missing_back(self) -> None:
        """As a GitOps tool does it: everything that isn't there, as it was at first."""
        self.watchman.disturb()
        for manifest in (deployment(V1, self.replicas), service(), ingress(), policy(**self.spec)):
            self.do(self.shop.put, manifest)

    @rule(number=st.integers(0, 5))
    def delete_a_pod(self, number: int) -> None:
        self.watchman.disturb()
        for pod in self.shop.list("Pod")[number : number + 1]:
            self.do(self.shop.store.delete, "Pod", NAMESPACE, pod["metadata"]["name"])

    # --- pods ---

    @rule(number=st.integers(0, 5))
    def crash_a_pod(self, number: int) -> None:
        self.watchman.disturb()
        for pod in self.shop.list("Pod")[number : number + 1]:
            self.do(self.shop.cluster.pods.crash, NAMESPACE, pod["metadata"]["name"])

    @rule()
    def lose_the_canary(self) -> None:
        """All pods of the version that is tried end at once, again and again: there is nobody to send traffic to."""
        self.watchman.disturb()
        for rs in self.shop.list("ReplicaSet"):
            tried = any(owner["kind"] == "Release" for owner in rs["metadata"].get("ownerReferences") or ())
            for pod in self.shop.list("Pod") if tried else ():
                if any(o["uid"] == rs["metadata"]["uid"] for o in pod["metadata"]["ownerReferences"]):
                    for _ in range(4):
                        self.do(self.shop.cluster.pods.crash, NAMESPACE, pod["metadata"]["name"])

    # --- the API server ---

    @rule(fault=FAULTS, after=st.integers(0, 3))
    def fail_a_write(self, fault: Fault, after: int) -> None:
        left = [after]

        def happens(number: int, verb: str, ref: Ref) -> Fault | None:
            left[0] -= 1
            if left[0] != -1:
                return None
            self.watchman.impede(fault.seconds if isinstance(fault, Slow) else 0.0)
            return fault

        for process in self.shop.processes[:1]:
            process.api.fault = happens

    @rule(lag=st.sampled_from([0.0, 1.0, 10.0]))
    def late_watches(self, lag: float) -> None:
        for process in self.shop.processes:
            process.api.lag = lag

    @rule(code=st.sampled_from([0, 410, 429, 500]))
    def cut_watches(self, code: int) -> None:
        self.watchman.impede()
        for process in self.shop.processes:
            process.api.cut(code)
        self.wait(0.01)

    # --- controllers ---

    @rule()
    def controller(self) -> None:
        """A (further) one starts: two at once for a moment, as when a leader is slow to learn that it is none."""
        if len(self.shop.processes) < 2:
            self.run(_started(self.shop))

    @precondition(lambda self: len(self.shop.processes) > 0)
    @rule()
    def kill(self) -> None:
        self.run(self.shop.processes.pop(0).kill())

    # --- what must hold ---

    @invariant()
    def nothing_forbidden_has_happened(self) -> None:
        if self.begun:
            if not self.at_work:
                self.watchman.impede()
            self.watchman.look()
            assert self.watchman.violations == []

    @invariant()
    def status_can_tell_what_is_going_on(self) -> None:
        if self.begun:
            assert "shop/web" in self.run(self.shop.told())

    @property
    def at_work(self) -> bool:
        """Whether a controller runs that hears of changes at once."""
        alive = [process for process in self.shop.processes if not process.api.dead]
        return bool(alive) and not any(process.api.lag for process in alive)

    @property
    def begun(self) -> bool:
        return getattr(self, "watchman", None) is not None

    def end(self) -> None:
        self.run(self._end())

    async def _end(self) -> None:
        """Everything works again, one controller runs, and nobody does anything more: all comes to rest, well."""
        await self.shop.kill_controllers()
        self.shop.start_controller()
        await self.shop.rest(7200)
        state = (await self.shop.view()).state
        wrong = self.watchman.at_rest(state)
        assert wrong == [], self.shop.state()


async def _started(here: Shop) -> None:
    here.start_controller()


Chaos.TestCase.settings = told(60)
TestChaos = Chaos.TestCase
