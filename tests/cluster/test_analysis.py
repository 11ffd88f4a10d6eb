"""Verdicts on the real control plane: hellok8s under a hundred requests a second, measured at the pods themselves."""

from __future__ import annotations

import sys
from pathlib import Path

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
    ended = shop.wait_phase(BAD, "RolledBack", "Completed", timeout=600)
    assert ended["status"]["phase"] == "RolledBack"
    assert ended["status"]["end"]["reason"] == "Worse"
    assert "canary requests" in ended["status"]["message"]
    assert traffic.share("v1") == 100
    assert "RolledBack" in shop.davy("status", "web").stdout


def test_a_good_version_that_nothing_speaks_against_completes_without_losing_a_request(
    shop: Shop, traffic: Traffic, controller: Controller
) -> None:
    shop.policy({"weight": 10, "hold": "30s"}, {"weight": 100}, analysis={"leaveWhen": "notWorse"})
    shop.set_image(GOOD)
    ended = shop.wait_phase(GOOD, "RolledBack", "Completed", timeout=600)
    assert ended["status"]["phase"] == "Completed"
    assert ended["status"]["analysis"]["canary"]["requests"] > 0
    assert ended["status"]["analysis"]["canary"]["slow"] < 1
    traffic.nothing_lost()


def test_a_new_exception_in_the_logs_is_found_where_every_answer_is_fine(
    shop: Shop, traffic: Traffic, controller: Controller
) -> None:
    shop.policy(*STEPS, analysis={"interval": "3s", "checks": [{"errors": {}}, {"logs": {}}]})
    release_with(shop, BAD, EXCEPTION_RATE="0.2")
    ended = shop.wait_phase(BAD, "RolledBack", "Completed", timeout=600)
    assert ended["status"]["phase"] == "RolledBack"
    assert "KeyError: 'discount'" in ended["status"]["message"]
    traffic.nothing_lost()


def test_angry_users_are_found_where_everything_else_is_fine(shop: Shop, traffic: Traffic, tmp_path: Path) -> None:
    options = ("--listen", LISTEN, "--trust-proxy", "127.0.0.0/8")
    with Controller(shop.lab, tmp_path / "controller.log", *options):
        shop.policy(*STEPS, analysis={"interval": "3s", "checks": [{"errors": {}}, {"feedback": {}}]})
        release_with(shop, BAD)
        shop.wait_step(BAD, 1)
        shop.wait(lambda: shop.release(BAD)["status"].get("analysis"), "a first look")
        votes = shop.lab.spawn([sys.executable, "-c", VOTES, f"http://{LISTEN}/feedback", shop.namespace])
        try:
            ended = shop.wait_phase(BAD, "RolledBack", "Completed", timeout=600)
        finally:
            votes.kill()
            votes.wait()
        assert ended["status"]["phase"] == "RolledBack"
        assert ended["status"]["message"].startswith("feedback: complaints by ")


LISTEN = "127.0.0.1:18080"
VOTES = """
import json, sys, time, urllib.request
url, namespace = sys.argv[1:]
for user in range(100):
    image = "hellok8s:v2-fails" if user % 10 else "hellok8s:v1"
    said = {"namespace": namespace, "name": "web", "bad": True, "user": str(user), "version": image}
    headers = {"Content-Type": "application/json", "X-Forwarded-For": f"192.0.2.{user + 1}"}
    urllib.request.urlopen(urllib.request.Request(url, json.dumps(said).encode(), headers)).read()
    time.sleep(2)
"""
"""A complaint every two seconds, nine of ten by users of the canary, which gets a tenth of the requests."""
