"""Verdicts on the real control plane: hellok8s under a hundred requests a second, measured at the pods themselves."""

from __future__ import annotations

import pytest

from tests.cluster.shop import Controller, Json, Shop, Traffic

V1, BAD, GOOD = "hellok8s:v1", "hellok8s:v2-fails", "hellok8s:v3"
STEPS: list[Json] = [{"weight": 10, "hold": "2m"}, {"weight": 100}]


@pytest.fixture
def traffic(shop: Shop) -> Traffic:
    shop.open(ERROR_RATE="0")
    return Traffic(shop)


def release_with(shop: Shop, image: str, **env: str) -> None:
    """A new version in one write: its image, and its faults."""
    variables = [{"name": name, "value": value} for name, value in env.items()]
    container = {"name": "hellok8s", "image": image, "env": variables}
    patch = {"spec": {"template": {"spec": {"containers": [container]}}}}
    shop.kubectl("patch", "deployment", "web", "-p", repr(patch).replace("'", '"'))


def test_one_failure_in_a_hundred_is_found_and_the_release_taken_back(
    shop: Shop, traffic: Traffic, controller: Controller
) -> None:
    shop.policy(*STEPS, analysis={})
    release_with(shop, BAD, ERROR_RATE="0.01")
    shop.wait_step(BAD, 1)
    ended = shop.wait_phase(BAD, "RolledBack", "Completed", timeout=240)
    assert ended["status"]["phase"] == "RolledBack"
    assert ended["status"]["end"]["reason"] == "Worse"
    assert "canary requests" in ended["status"]["message"]
    assert traffic.share("v1") == 100
    assert "RolledBack" in shop.davy("status", "web").stdout


def test_a_good_version_leaves_its_step_with_the_verdict_of_good_enough(
    shop: Shop, traffic: Traffic, controller: Controller
) -> None:
    shop.policy({"weight": 50, "hold": "10m"}, {"weight": 100}, analysis={"leaveWhen": "confident", "tolerate": 3})
    shop.set_image(GOOD)
    ended = shop.wait_phase(GOOD, "RolledBack", "Completed", timeout=240)
    assert ended["status"]["phase"] == "Completed"
    assert [t["reason"] for t in ended["status"]["history"]].count("GoodEnough") == 1
    traffic.nothing_lost()
