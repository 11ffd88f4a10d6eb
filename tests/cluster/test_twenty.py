"""Twenty releases in a row under traffic: nothing lost, nothing left, nothing restarted that should not be."""

from __future__ import annotations

from tests.cluster.shop import Controller, Shop, Traffic

ROUNDS = 10


def test_twenty_releases_in_a_row_lose_nothing_and_leave_nothing(shop: Shop, controller: Controller) -> None:
    """Each round is a good version that completes and a bad one that is taken back, by turns before it gets
    traffic (it crashes) and while it has half of it (a person aborts)."""
    shop.open("hellok8s:v0")
    shop.policy({"weight": 10}, {"weight": 50, "hold": "1s"}, {"weight": 100}, historyLimit=100)
    traffic = Traffic(shop)
    for number in range(1, ROUNDS + 1):
        good = f"hellok8s:v{number}"
        shop.set_image(good)
        shop.wait_phase(good, "Completed")
        shop.wait_quiet(good)
        stable = shop.pods()
        if number % 2:
            bad = f"hellok8s:v{number}-crash"
            shop.set_image(bad)
        else:
            bad = f"hellok8s:v{number}-unloved"
            shop.set_image(bad)
            shop.wait_step(bad, 2)
            shop.davy("abort", "web")
        shop.wait_phase(bad, "RolledBack")
        shop.wait_quiet(good)
        assert shop.pods() == stable, "no stable pod was restarted by the rollback"
        assert shop.leftovers() == []
    traffic.nothing_lost()
    phases = [release["status"]["phase"] for release in shop.releases]
    assert sorted(phases) == ["Completed"] * ROUNDS + ["RolledBack"] * ROUNDS
    restarts = [s["restartCount"] for pod in shop.all("pods") for s in pod["status"]["containerStatuses"]]
    assert restarts == [0] * 4
