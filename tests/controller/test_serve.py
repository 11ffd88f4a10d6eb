from __future__ import annotations

import aiohttp
import pytest

from davylamp.controller.loop import Controller
from davylamp.controller.metrics import Metrics
from davylamp.controller.serve import serving
from davylamp.core.actions import Ref
from tests.controller.rig import Rig


@pytest.fixture
def rig() -> Rig:
    return Rig()


async def asked(controller: Controller, metrics: Metrics, path: str) -> tuple[int, str]:
    async with serving("127.0.0.1:0", controller, metrics) as (host, port):
        url = f"http://{host}:{port}{path}"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return answer.status, await answer.text()


async def test_before_everything_is_known_it_is_alive_and_not_ready(rig: Rig) -> None:
    assert (await asked(rig.controller, rig.metrics, "/healthz"))[0] == 200
    status, text = await asked(rig.controller, rig.metrics, "/readyz")
    assert status == 503
    assert "Deployment" in text


async def test_when_everything_is_known_it_is_ready(rig: Rig) -> None:
    await rig.start()
    assert await asked(rig.controller, rig.metrics, "/readyz") == (200, "ok\n")
    await rig.stop()


async def test_a_worker_that_hangs_is_not_healthy(rig: Rig) -> None:
    rig.controller.queue.add(Ref("Deployment", "shop", "web"))
    await rig.controller.queue.get()
    await rig.clock.advance(300)
    status, text = await asked(rig.controller, rig.metrics, "/healthz")
    assert status == 500
    assert "300 s" in text


async def test_the_metrics_are_there(rig: Rig) -> None:
    status, text = await asked(rig.controller, rig.metrics, "/metrics")
    assert status == 200
    for name in (
        'davylamp_releases{phase="Progressing"} 0.0',
        "davylamp_queue_depth 0.0",
        "davylamp_step_duration_seconds_count",
    ):
        assert name in text


@pytest.mark.parametrize("listen", ["", "8080", "host:", ":http"])
async def test_what_is_no_address_is_named_with_what_would_be(rig: Rig, listen: str) -> None:
    with pytest.raises(ValueError, match="not an address to listen on: write for example :8080"):
        async with serving(listen, rig.controller, rig.metrics):
            pass


async def voted(rig: Rig, **said: object) -> tuple[int, str]:
    async with serving("127.0.0.1:0", rig.controller, rig.metrics) as (host, port):
        url = f"http://{host}:{port}/feedback?namespace=shop&name=web"
        async with aiohttp.ClientSession() as session, session.post(url, json=said) as answer:
            return answer.status, await answer.text()


async def test_a_replica_that_does_not_lead_sends_users_votes_elsewhere(rig: Rig) -> None:
    status, text = await voted(rig, bad=True)
    assert (status, text) == (503, "another replica of the controller leads; send it again\n")


async def test_votes_reach_the_release_that_is_under_way(rig: Rig) -> None:
    await rig.start_web(analysis={"checks": [{"errors": {}}, {"feedback": {}}]})
    assert (await voted(rig, bad=True))[0] == 404
    rig.set_image("hellok8s:v2")
    await rig.clock.advance(5)
    assert (await voted(rig, bad=True, version="hellok8s:v3"))[0] == 422
    assert (await voted(rig, bad=True, version="hellok8s:v2", user="4711"))[0] == 202
    assert (await voted(rig, bad=True, version="hellok8s:v2", user="4711"))[0] == 200
    await rig.stop()
