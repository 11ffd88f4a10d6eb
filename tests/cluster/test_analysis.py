"""Verdicts on the real control plane: hellok8s under a hundred requests a second, measured at the pods themselves."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.cli.test_verdict import recomputed
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
    said, everything, warm = recomputed(shop.davy("verdict", "web", "-o", "json").stdout, 1)[-1]
    assert any(abs(said / value - 1) < 1e-3 for value in (everything, min(everything, warm)))


def test_a_good_version_completes_without_losing_a_request_also_by_a_controller_that_begins_anew(
    shop: Shop, traffic: Traffic, controller: Controller
) -> None:
    shop.policy({"weight": 10, "hold": "30s"}, {"weight": 100}, analysis={"leaveWhen": "notWorse"})
    shop.set_image(GOOD)

    def written() -> Json:
        found: Json = shop.release(GOOD).get("status", {}).get("analysis", {})
        return found

    shop.wait(lambda: written().get("canary", {}).get("requests"), "requests of the canary")
    controller.stop()
    before = written()
    controller.start()
    ended = shop.wait_phase(GOOD, "RolledBack", "Completed", timeout=600)
    assert ended["status"]["phase"] == "Completed"
    after = ended["status"]["analysis"]
    assert after["looks"] > before["looks"] > 1, "it goes on from what was written"
    assert after["canary"]["requests"] >= before["canary"]["requests"]
    assert before["canary"]["slow"] < 1
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
        feedback = {"feedback": {"versionCookie": "served-by"}}
        shop.policy(*STEPS, analysis={"interval": "3s", "checks": [{"errors": {}}, feedback]})
        release_with(shop, BAD)
        shop.wait_step(BAD, 1)
        shop.wait(lambda: shop.release(BAD)["status"].get("analysis"), "a first look")
        pod = next(name for name, image in shop.pods().items() if image == BAD)
        votes = shop.lab.spawn([sys.executable, "-c", VOTES, f"http://{LISTEN}/feedback", shop.namespace, pod])
        try:
            ended = shop.wait_phase(BAD, "RolledBack", "Completed", timeout=600)
        finally:
            votes.kill()
            votes.wait()
        assert ended["status"]["phase"] == "RolledBack"
        found = re.match(
            r"feedback: complaints by (\d+) users of the canary .*, 0 of stable", ended["status"]["message"]
        )
        assert found, ended["status"]["message"]
        assert int(found[1]) <= 10, "each counts once"


LISTEN = "127.0.0.1:18080"
VOTES = """
import json, sys, time, urllib.request
url, namespace, pod = sys.argv[1:]
BAD = "hellok8s:v2-fails"
ways = [({}, {"X-Version": BAD}), ({}, {"Cookie": "served-by=" + BAD}), ({"pod": pod}, {})]
for number in range(200):
    user = number // 2
    said = {"namespace": namespace, "name": "web", "bad": user % 10 == 9, "user": str(user)}
    headers = {"Content-Type": "application/json", "X-Forwarded-For": f"192.0.2.{user + 1}"}
    if said["bad"]:
        more, told = ways[user // 10 % 3]
        said, headers = said | more, headers | told
    else:
        said["version"] = BAD if user % 10 == 5 else "hellok8s:v1"
    urllib.request.urlopen(urllib.request.Request(url, json.dumps(said).encode(), headers)).read()
    time.sleep(0.2)
"""
"""A hundred users, each of whom says it twice: ten of the canary's, which gets a tenth of the requests, are angry; its
version is told by a header, a cookie or the pod's name."""
