"""As `test_chaos`, for two Deployments that take turns: people, faults and controllers do anything in any order.

Service `web` is never without a ready pod, with routes never has pods of two versions, and at the end one of the two
Deployments serves.
"""

from __future__ import annotations

from typing import Any

from hypothesis import Phase
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from davylamp.core import names
from davylamp.core.actions import Ref
from davylamp.core.pair_start import next_name
from tests.chaos.faulty import Fault
from tests.chaos.shop import BAD, GOOD, image_of
from tests.chaos.story import FAULTS, Story, told
from tests.embedded.test_pairs import begin, served, sizes
from tests.kube.controllers import NAMESPACE

BOTH = ("web-v1", "web-v2")
STEPS = st.sampled_from(
    [
        [{"weight": 25, "hold": "30s"}, {"weight": 50, "hold": "30s"}, {"weight": 100, "hold": "30s"}],
        [{"weight": 25, "approve": True}, {"weight": 100}],
        [{"weight": 50}],
    ]
)


class PairChaos(Story):
    def __init__(self) -> None:
        super().__init__()
        self.wrong: list[str] = []

    @initialize(steps=STEPS, way=st.sampled_from([{}, {"by_hand": 0}, {"routed": False}]))
    def open(self, steps: list[dict[str, Any]], way: dict[str, Any]) -> None:
        self.routed = way.get("routed", True)
        self.kept = {"web", "web-canary"} if "by_hand" in way else {"web"}
        self.controller()
        self.run(begin(self.shop, steps=steps, progressDeadline="60s", **way))
        self.shop.store.subscribe(lambda *_: self._look(), "EndpointSlice")

    def controller(self) -> None:
        async def started() -> None:
            self.process = self.shop.start_controller()

        self.run(started())

    def _look(self) -> None:
        """At each change of the endpoints: what Service web offers to traffic."""
        images = served(self.shop)
        if not images:
            self.wrong.append(f"Service web had no ready pod after {self.clock.time():g} s")
        if self.routed and len(images) > 1:
            self.wrong.append(f"Service web had {sorted(images)} after {self.clock.time():g} s")

    @rule(name=st.sampled_from(BOTH), image=st.sampled_from([*GOOD, *BAD]))
    def set_image(self, name: str, image: str) -> None:
        self.do(self.shop.set_image, image, name)

    @rule(
        fields=st.sampled_from(
            [
                {"abort": {"by": "a test"}},
                {"promote": {"by": "a test"}},
                {"approved": {"step": 1}},
                {"paused": {"by": "a test"}},
                {"paused": None},
                {"retry": {"by": "a test"}},
            ]
        )
    )
    def command(self, fields: dict[str, Any]) -> None:
        """To the release under way, or else to any."""
        releases = self.shop.list("Release")
        final = ("Completed", "RolledBack", "Superseded", "Withdrawn")
        active = [r for r in releases if r.get("status", {}).get("phase") not in final]
        for release in (active or releases)[-1:]:
            self.do(self.shop.change, "Release", release["metadata"]["name"], {"spec": fields})

    @rule()
    def start(self) -> None:
        """As `davy start` says it, of what it sees at this moment."""
        world = self.process.controller.world(Ref("Deployment", NAMESPACE, "web-v1"))
        if world.deployment is not None and not any(release.active for release in world.releases):
            name = next_name(world.releases, world.deployment)
            mark = {"metadata": {"annotations": {names.START: name}}}
            self.do(self.shop.change, "Deployment", world.deployment.metadata.name, mark)

    @rule(fault=FAULTS)
    def fault(self, fault: Fault) -> None:
        """The next write goes wrong."""
        pending = [fault]
        self.process.api.fault = lambda *_: pending.pop() if pending else None

    @rule()
    def restart(self) -> None:
        self.run(self.shop.kill_controllers())
        self.controller()

    @invariant()
    def nobody_is_left_alone(self) -> None:
        assert self.wrong == []

    @property
    def begun(self) -> bool:
        return hasattr(self, "process")

    def end(self) -> None:
        """Everything goes well from now on, and who is asked says yes: one of the two serves, and nothing is left."""
        self.restart()
        for _ in range(4):
            self.run(self.shop.rest(3600))
            self.command({"paused": None})
            self.command({"promote": {"by": "the end"}})
        self.run(self.shop.rest(3600))
        self.nobody_is_left_alone()
        assert sorted(sizes(self.shop)) == [0, 4]
        images = [image_of(pod) for pod in self.shop.list("Pod")]
        assert (len(images), len(set(images))) == (4, 1), images
        assert served(self.shop) == set(images)
        assert set(images) <= set(GOOD)
        assert {i["metadata"]["name"] for i in self.shop.list("Ingress")} == self.kept
        phases = [release.get("status", {}).get("phase") for release in self.shop.list("Release")]
        assert set(phases) <= {"Completed", "RolledBack", "Superseded", "Withdrawn"}, phases


PairChaos.TestCase.settings = told(25, phases=(Phase.explicit, Phase.reuse, Phase.generate))
TestPairChaos = PairChaos.TestCase
