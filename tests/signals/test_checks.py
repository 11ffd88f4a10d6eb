"""Other people's checks: what an answer means, the Job that is made, and what its status means."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from davylamp.api.analysis import Job, Key, Webhook
from davylamp.signals.addresses import LOOPBACK
from davylamp.signals.checks import Facts, Outcome, ask, job_manifest, job_name, job_outcome
from davylamp.signals.fetch import client

FACTS = Facts("shop", "web", "web-7f6b13-1", 2, 10, "shop:v1", "shop:v2", "7f6b13")


async def outcome(status: int, text: str = "", **headers: str) -> tuple[Outcome, dict[str, Any]]:
    seen: dict[str, Any] = {}

    async def answer(request: web.Request) -> web.Response:
        seen.update(await request.json(), authorization=request.headers.get("Authorization"))
        return web.Response(status=status, text=text or None, headers=headers)

    app = web.Application()
    app.add_routes([web.post("/gate", answer)])
    async with TestServer(app) as server, client(LOOPBACK) as session:
        webhook = Webhook(str(server.make_url("/gate")), body={"team": "shop"}, token=Key("gate", "token"))
        return await ask(session, webhook, "gate", FACTS, {Key("gate", "token"): b"abc\n"}), seen


@pytest.mark.parametrize(
    ("status", "passed"),
    [
        *((status, True) for status in (200, 202, 204)),
        *((status, False) for status in (302, 400, 404, 500)),
        *((status, None) for status in (429, 502, 503, 504)),
    ],
)
async def test_2xx_passes_and_an_outage_is_no_verdict(status: int, passed: bool | None) -> None:
    headers = {"Location": "http://elsewhere.example/"} if status == 302 else {}
    found, _ = await outcome(status, **headers)
    assert found.passed is passed
    assert f"answers {status}" in found.message


async def test_the_webhook_is_told_of_the_release_and_its_reason_is_shown() -> None:
    found, seen = await outcome(412, "smoke test\nfailed: login")
    assert found.message.endswith("answers 412: smoke test failed: login")
    assert seen == {
        "namespace": "shop",
        "deployment": "web",
        "release": "web-7f6b13-1",
        "step": 2,
        "weight": 10,
        "stable_image": "shop:v1",
        "canary_image": "shop:v2",
        "canary_hash": "7f6b13",
        "check": "gate",
        "parameters": {"team": "shop"},
        "authorization": "Bearer abc",
    }


async def test_no_answer_in_time_is_no_verdict() -> None:
    async def hang(request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError("never")

    app = web.Application()
    app.add_routes([web.post("/", hang)])
    async with TestServer(app) as server, client(LOOPBACK) as session:
        found = await ask(session, Webhook(str(server.make_url("/")), timeout="50ms"), "gate", FACTS, {})
    assert (found.passed, found.message.endswith("no answer within 0.05 s")) == (None, True)


@pytest.mark.parametrize(
    ("webhook", "message"),
    [
        (Webhook("http://169.254.169.254/latest"), "link-local (cloud metadata)"),
        (Webhook("http://127.0.0.1:1/"), "loopback"),
        (Webhook("http://a.example/", token=Key("gate", "token")), 'there is no key token in Secret "gate"'),
    ],
)
async def test_what_must_not_be_asked_is_not(webhook: Webhook, message: str) -> None:
    async with client() as session:
        found = await ask(session, webhook, "gate", FACTS, {})
    assert found.passed is None
    assert message in found.message


TEMPLATE = {
    "spec": {"containers": [{"name": "smoke", "image": "smoke:1", "env": [{"name": "DAVY_STEP", "value": "x"}]}]}
}


def test_the_job_runs_once_belongs_to_the_release_and_knows_it() -> None:
    manifest = job_manifest(Job(TEMPLATE, timeout="90s", service_account="tester"), "smoke test", FACTS, "uid-1")
    assert manifest["metadata"]["name"] == "web-7f6b13-1-smoke-test-1"
    assert manifest["metadata"]["namespace"] == "shop"
    (owner,) = manifest["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"], owner["controller"]) == (
        "Release",
        FACTS.release,
        "uid-1",
        True,
    )
    spec = manifest["spec"]
    assert (spec["backoffLimit"], spec["activeDeadlineSeconds"], spec["ttlSecondsAfterFinished"]) == (0, 90, 3600)
    pod = spec["template"]["spec"]
    assert (pod["restartPolicy"], pod["serviceAccountName"]) == ("Never", "tester")
    variables = {one["name"]: one["value"] for one in pod["containers"][0]["env"]}
    assert variables["DAVY_CANARY_IMAGE"] == "shop:v2"
    assert variables["DAVY_STEP"] == "x", "what the template says itself stays"
    assert "restartPolicy" not in TEMPLATE["spec"], "the policy's own template is left as it is"


def test_a_job_has_the_same_name_each_time_and_never_too_long_a_one() -> None:
    long = "x" * 60
    assert job_name("smoke", long, 1) == job_name("smoke", long, 1) != job_name("smoke", long, 2)
    assert len(job_name("smoke", long, 1)) <= 63


@pytest.mark.parametrize(
    ("job", "passed", "message"),
    [
        (None, None, "smoke: its Job is gone"),
        ({"metadata": {"name": "j"}}, None, "smoke: Job j is running"),
        ({"status": {"conditions": [{"type": "Complete", "status": "True"}]}}, True, "has succeeded"),
        ({"status": {"conditions": [{"type": "Complete", "status": "False"}]}}, None, "is running"),
        ({"status": {"conditions": [{"type": "SuccessCriteriaMet", "status": "True"}]}}, None, "is running"),
        (
            {"status": {"conditions": [{"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}]}},
            False,
            "has failed: DeadlineExceeded",
        ),
    ],
)
def test_the_status_of_a_job_says_what_came_of_it(
    job: dict[str, Any] | None, passed: bool | None, message: str
) -> None:
    found = job_outcome(job, "smoke", 1000, 600)
    assert found.passed is passed
    assert message in found.message
    assert found.pending is (job is not None and passed is None)


@pytest.mark.parametrize(
    ("job", "pending"),
    [
        ({"metadata": {"name": "j", "creationTimestamp": "2026-11-26T12:00:00Z"}}, [True, False]),
        (
            {
                "metadata": {"name": "j", "creationTimestamp": "2026-11-26T11:00:00Z"},
                "status": {"startTime": "2026-11-26T12:00:00Z", "active": 1},
            },
            [True, False],
        ),
    ],
)
def test_a_job_that_nobody_ends_is_an_outage_only_after_its_own_time(job: dict[str, Any], pending: list[bool]) -> None:
    began = datetime(2026, 11, 26, 12, tzinfo=UTC).timestamp()
    found = [job_outcome(job, "smoke", began + after, 600) for after in (630, 661)]
    assert [one.pending for one in found] == pending
    assert found[1].message == "smoke: Job j has not ended, though its 10 min are over"
