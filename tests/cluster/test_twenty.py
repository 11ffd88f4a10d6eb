"""Twenty releases in a row under traffic: nothing lost, nothing left, nothing restarted that should not be."""

from __future__ import annotations

from tests.cluster.shop import Controller, Shop, Traffic

ROUNDS = 10
KINDS = "deployments,replicasets,pods,services,endpointslices,ingresses,releasepolicies,releases"


def test_twenty_releases_in_a_row_lose_nothing_and_leave_nothing(shop: Shop, controller: Controller) -> None:
    """Each round is a good version that completes and a bad one that is taken back, by turns before it gets
    traffic (it crashes) and while it has half of it (a person aborts)."""
    shop.open("hellok8s:v0")
    shop.policy({"weight": 10}, {"weight": 50, "hold": "1s"}, {"weight": 100}, historyLimit=100)
    traffic = Traffic(shop)
    for number in range(1, ROUNDS + 1):
        stable = promoted(shop, f"hellok8s:v{number}")
        taken_back(shop, f"hellok8s:v{number}", f"hellok8s:v{number}-{'crash' if number % 2 else 'unloved'}")
        assert shop.pods() == stable, "no stable pod was restarted by the rollback"
        assert restarts(shop) == [0] * 4
    traffic.nothing_lost()
    assert orphans(shop) == []
    phases = [release["status"]["phase"] for release in shop.releases]
    assert sorted(phases) == ["Completed"] * ROUNDS + ["RolledBack"] * ROUNDS


def promoted(shop: Shop, image: str) -> dict[str, str]:
    """A release that completes; the pods there are then: the canary's, which no one has replaced."""
    before = shop.pods()
    shop.set_image(image)
    shop.wait_step(image, 1)
    during = shop.pods()
    canary = {name: of for name, of in during.items() if of == image}
    assert during == before | canary, "the stable pods stay beside the canary's"
    shop.wait_phase(image, "Completed")
    shop.wait_quiet(image)
    assert shop.pods() == canary, "the canary's pods are the Deployment's, none was started anew"
    assert shop.leftovers() == []
    return canary


def taken_back(shop: Shop, stable: str, image: str) -> None:
    shop.set_image(image)
    if not image.endswith("crash"):
        shop.wait_step(image, 2)
        shop.davy("abort", "web")
    shop.wait_phase(image, "RolledBack")
    shop.wait_quiet(stable)
    assert shop.leftovers() == []


def restarts(shop: Shop) -> list[int]:
    return [status["restartCount"] for pod in shop.all("pods") for status in pod["status"]["containerStatuses"]]


def orphans(shop: Shop) -> list[str]:
    """Objects whose owner is gone."""
    found = shop.all(KINDS)
    uids = {obj["metadata"]["uid"] for obj in found}
    return [
        f"{obj['kind']} {obj['metadata']['name']}"
        for obj in found
        if not all(owner["uid"] in uids for owner in obj["metadata"].get("ownerReferences", []))
    ]
