"""Releases on an API server without MutatingAdmissionPolicy, as most are before Kubernetes 1.36: targeted Deployments
are kept paused instead."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from davylab import Lab

from tests.cluster.shop import Controller, Shop, Traffic, davy

V1, V2, CRASHING = "hellok8s:v1", "hellok8s:v2", "hellok8s:v9-crash"
PAUSED_BY = "davylamp.dev/paused-by"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(traefik=True, mutating_policies=False) as lab:
        yield lab


@pytest.fixture(scope="module")
def installed(lab: Lab) -> Lab:
    """What this cluster can't do, and what is done instead, is said."""
    said = davy(lab, "install").stdout
    assert "MutatingAdmissionPolicy" in said
    assert "paused" in said
    return lab


def test_releases_are_gated_promoted_and_taken_back_without_the_gate(shop: Shop, controller: Controller) -> None:
    shop.open()
    traffic = Traffic(shop)
    shop.policy({"weight": 50, "hold": "2s"}, {"weight": 100})

    def kept_paused() -> bool:
        found = shop.get("deployment", "web")
        mark = found["metadata"].get("annotations", {}).get(PAUSED_BY)
        return bool(found["spec"].get("paused")) and mark == "davylamp"

    shop.wait(kept_paused, "the Deployment to be kept paused before any release")
    shop.set_image(V2)
    shop.wait_phase(V2, "Completed")
    shop.wait_quiet(V2)
    shop.wait(kept_paused, "the Deployment to be paused again, for the next release")
    assert shop.leftovers() == []
    stable = shop.pods()
    shop.set_image(CRASHING)
    shop.wait_phase(CRASHING, "RolledBack")
    shop.wait_quiet(V2)
    assert shop.pods() == stable
    assert kept_paused()
    traffic.nothing_lost()


def test_resuming_by_hand_is_the_native_way_and_wins(shop: Shop, controller: Controller) -> None:
    shop.open()
    shop.policy({"weight": 50, "approve": True}, routed=False)
    shop.set_image(V2)
    shop.wait_step(V2, 1)
    shop.kubectl("rollout", "resume", "deployment/web")
    shop.wait_phase(V2, "Overridden")
    shop.wait_quiet(V2)
    assert shop.leftovers() == []


def test_deleting_the_policy_lets_the_deployment_go(shop: Shop, controller: Controller) -> None:
    shop.open()
    shop.policy({"weight": 50}, routed=False)
    shop.wait(lambda: shop.get("deployment", "web")["spec"].get("paused"), "the Deployment kept paused")
    shop.kubectl("delete", "releasepolicy", "web")
    shop.wait(lambda: not shop.get("deployment", "web")["spec"].get("paused"), "the Deployment to be let go")
    assert PAUSED_BY not in shop.get("deployment", "web")["metadata"].get("annotations", {})
