"""When a weight is in effect, seen from the requests that real pods count behind a real proxy; what others change."""

from __future__ import annotations

import re
import time
from datetime import datetime
from typing import Any

from tests.cluster.shop import SEEN, Controller, Json, Shop, Traffic

V2 = "hellok8s:v2"
STEPS: list[Json] = [{"weight": 10, "approve": True}, {"weight": 50, "approve": True}]
LONG: Json = {"service": "web", "routes": [{"ingress": {"name": "web"}}], "settle": "60s"}
"""A settling time so long that only what is seen can be quicker."""


class Clients:
    """What they were answered by, since."""

    def __init__(self, traffic: Traffic, version: str) -> None:
        self.traffic = traffic
        self.version = version
        self.samples: list[tuple[float, int, int]] = []

    def look(self) -> float:
        """The time."""
        counts = self.traffic.load.snapshot().by_version
        self.samples.append((time.time(), counts.total(), counts[self.version]))
        return self.samples[-1][0]

    def share(self, begin: float, end: float) -> float:
        """Percent of the canary in the answers between two moments."""
        near = [one for one in self.samples if begin <= one[0] <= end]
        return 100 * (near[-1][2] - near[0][2]) / max(near[-1][1] - near[0][1], 1)


def entered(shop: Shop, clients: Clients, step: int) -> tuple[float, float, re.Match[str]]:
    """When the step's weight was written and when it counted, and how that was known."""

    def there() -> bool:
        clients.look()
        return bool(shop.release(V2).get("status", {}).get("step", 0) >= step)

    shop.lab.wait(there, 120, f"step {step}", every=0.1)
    status = shop.release(V2)["status"]
    asked, since = (datetime.fromisoformat(at).timestamp() for at in (status["weight"]["askedAt"], status["stepSince"]))
    how = SEEN.match(status["weight"]["how"])
    assert how is not None, status["weight"]
    return asked, since, how


def after(clients: Clients, seconds: float) -> None:
    until = time.time() + seconds
    clients.traffic.shop.lab.wait(lambda: clients.look() > until, 120, "some more requests", every=0.1)


def test_a_weight_counts_when_clients_are_split_by_it_through_a_proxy_that_is_throttled(
    shop: Shop, controller: Controller
) -> None:
    shop.open()
    traffic = Traffic(shop, rps=200)
    clients = Clients(traffic, "v2")
    shop.policy(*STEPS, traffic=LONG)
    shop.set_image(V2)
    before = 0.0
    for number, step in enumerate(STEPS, 1):
        asked, since, how = entered(shop, clients, number)
        after(clients, 2)
        share = clients.share(since, since + 2)
        assert (step["weight"] + before) / 2 < share < step["weight"] + 12, "clients are split by it when it counts"
        assert since - asked < 45, "long before the settling time"
        assert (step["weight"] + before) / 2 < float(how[2]) < step["weight"] + 12
        before = step["weight"]
        if number < len(STEPS):
            shop.davy("approve", "web")
    shown = shop.davy("status", "web").stdout
    assert re.search(rf"effect  50 % asked at [\d:]+, {SEEN.pattern}", shown)
    done = shop.davy("abort", "web", "--wait", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    ended = shop.release(V2)["status"]
    turned = next(one for one in ended["history"] if one["reason"] == "Aborted")
    took = datetime.fromisoformat(ended["finishedAt"]) - datetime.fromisoformat(turned["time"])
    assert took.total_seconds() < 55, "the canary was seen to get nothing, long before the settling time"
    assert shop.leftovers() == []
    traffic.nothing_lost()


def annotate(shop: Shop, manager: str, weight: int) -> None:
    change = f"nginx.ingress.kubernetes.io/canary-weight={weight}"
    shop.kubectl("annotate", "ingress", "web-davylamp", change, "--overwrite", f"--field-manager={manager}")


def weight(shop: Shop) -> Any:
    annotations = shop.get("ingress", "web-davylamp")["metadata"]["annotations"]
    return annotations["nginx.ingress.kubernetes.io/canary-weight"]


def test_what_others_change_is_put_right_with_their_name_and_a_fight_is_not_fought_for_ever(
    shop: Shop, controller: Controller
) -> None:
    shop.open()
    shop.policy(STEPS[0])
    shop.set_image(V2)
    shop.wait_step(V2, 1)
    for number in range(1, 6):
        annotate(shop, "argocd-controller", 90)
        shop.wait(lambda number=number: len(shop.events("Drift")) == number, f"drift {number}")  # type: ignore[misc]
        shop.wait(lambda: weight(shop) == "10", "the weight put right")
    assert set(shop.events("Drift")) == {"Ingress web-davylamp was changed by argocd-controller; it is put right"}
    annotate(shop, "argocd-controller", 90)
    (told,) = shop.wait(lambda: shop.events("Fight"), "the fight's event")
    assert told.startswith("Ingress web-davylamp was changed by argocd-controller, again and again: it was put right 5")
    assert weight(shop) == "90", "it is left alone"
    shown = shop.davy("status", "web").stdout
    assert "others change its routing again and again" in shown.splitlines()[0]
    assert "argocd-controller" in shown.splitlines()[1]
    done = shop.davy("abort", "web", "--wait", check=False)
    assert done.returncode == 0, "a fight keeps nobody from taking it back"
    assert shop.leftovers() == []
