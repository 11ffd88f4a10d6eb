"""The eyes on a release: Secrets, logs and votes."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from davylamp.analysis.counts import Outcome
from davylamp.api.analysis import Analysis, BasicAuth, Check, Errors, Feedback, Job, Key, Logs, Prometheus, Sources
from davylamp.api.objects import Meta
from davylamp.api.types import Release, ReleaseSpec, Side, UserVote
from davylamp.controller.looker import Blocked, Lookers, keys_of
from davylamp.core.actions import Ref
from davylamp.kube.errors import ApiError
from davylamp.signals.gather import Pods
from davylamp.signals.scrape import Target
from tests.kube.fake import FakeApi, FakeClock

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PODS = Pods("shop", (Target("web-1-a", ()),), (Target("web-2-b", ()),))
TOKEN = Key("prometheus", "token")
WITH_TOKEN = Analysis(sources=Sources(prometheus=Prometheus("http://prometheus:9090", bearer_token=TOKEN)))


def release(analysis: Analysis, **spec: Any) -> Release:
    given = ReleaseSpec(
        policy="web",
        deployment="web",
        template="t",
        stable=Side("web-1", "h1", "web:v1"),
        canary=Side("web-2", "h2", "web:v2"),
        steps=(),
        analysis=analysis,
        **spec,
    )
    return Release(Meta(name="web-2", namespace="shop", uid="uid-2"), given)


@pytest.fixture
def api() -> FakeApi:
    return FakeApi(FakeClock())


@pytest.fixture
async def lookers(api: FakeApi) -> AsyncIterator[Lookers]:
    made = Lookers(api)
    yield made
    await made.close()


def secret(**data: str) -> dict[str, Any]:
    content = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    meta = {"name": "prometheus", "namespace": "shop"}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": content}


def test_every_secret_that_an_analysis_names_is_found() -> None:
    password, vote = Key("prometheus", "password"), Key("feedback", "token")
    source = Prometheus("http://p", bearer_token=TOKEN, basic_auth=BasicAuth("ann", password))
    checks = (Check(errors=Errors()), Check(feedback=Feedback(token=vote)))
    assert list(keys_of(Analysis(sources=Sources(prometheus=source), checks=checks))) == [TOKEN, password, vote]


async def test_secrets_are_read_only_where_the_policy_names_one(api: FakeApi, lookers: Lookers) -> None:
    await lookers.open(release(Analysis()), PODS, "app", 0)
    assert api.requests == []
    api.put(secret(token="abc"))
    await lookers.open(release(WITH_TOKEN), PODS, "app", 0)
    assert api.requests == [("get", Ref("Secret", "shop", "prometheus"))]


async def test_a_secret_that_is_not_there_or_holds_something_else_is_named(api: FakeApi, lookers: Lookers) -> None:
    with pytest.raises(Blocked, match='there is no Secret "prometheus" in namespace shop'):
        await lookers.open(release(WITH_TOKEN), PODS, "app", 0)
    api.put(secret(other="abc"))
    with pytest.raises(Blocked, match='no key token in Secret "prometheus"'):
        await lookers.open(release(WITH_TOKEN), PODS, "app", 0)


async def test_without_the_right_to_read_a_secret_the_command_that_gives_it_is_told(
    api: FakeApi, lookers: Lookers
) -> None:
    def refuse(verb: str, ref: Ref) -> None:
        raise ApiError(403, "Forbidden", "no", verb=verb, ref=ref)

    api.before = refuse
    with pytest.raises(Blocked, match=r"kubectl create role .* -n shop --verb=get .* --resource-name=prometheus"):
        await lookers.open(release(WITH_TOKEN), PODS, "app", 0)


async def test_votes_that_people_passed_on_are_put_in_once(lookers: Lookers) -> None:
    later = NOW + timedelta(seconds=5)
    votes = (UserVote(NOW, "1", bad=True), UserVote(later, "1", bad=True), UserVote(NOW, "2", bad=True, stable=True))
    given = release(Analysis(checks=(Check(feedback=Feedback()),)), feedback=votes)
    looker = await lookers.open(given, PODS, "app", NOW.timestamp())
    for passed, expected in ((10, [True, False]), (20, [])):
        found = dict((await looker.look(given, PODS, NOW.timestamp() + passed)).counts)["feedback"]
        assert [vote.canary for vote in found.votes] == expected  # type: ignore[union-attr]
    assert looker.box is not None
    assert "web-2-b" in looker.box.sides.canary


async def test_messages_of_templates_show_a_line_that_has_it(api: FakeApi, lookers: Lookers) -> None:
    api.texts["shop", "web-1-a", "app", False] = "ERROR payment declined for order 17\n"
    looker = await lookers.open(release(Analysis(checks=(Check(logs=Logs()),))), PODS, "app", 0)
    templates = looker._templates  # type: ignore[attr-defined]
    (known,) = templates._known
    assert looker.explained(f"logs: template {known}, known") == 'logs: "payment declined for order 17", known'
    assert looker.explained("logs: template 0123456789abcdef, new") == "logs: template 0123456789abcdef, new"
    await looker.close()


JOB = Check(job=Job(template={"spec": {"containers": [{"name": "test", "image": "smoke:v1"}]}}))


async def test_a_job_is_made_once_and_what_comes_of_it_is_read(api: FakeApi, lookers: Lookers) -> None:
    given = release(Analysis(checks=(JOB,)))
    given = msgspec.structs.replace(given, status=msgspec.structs.replace(given.status, step=1))
    looker = await lookers.open(given, PODS, "app", NOW.timestamp())
    for passed in (10, 20):
        found = await looker.look(given, PODS, NOW.timestamp() + passed)
        assert found.problems == ()
        ((_, running),) = found.counts
        assert isinstance(running, Outcome)
        assert (running.passed, running.message) == (None, "job: Job web-2-job-1 is running")
    job = Ref("Job", "shop", "web-2-job-1")
    assert api.writes == [("create", job)]
    api.set_status(job, {"conditions": [{"type": "Failed", "status": "True", "message": "exit code 3"}]})
    again = await lookers.open(given, PODS, "app", NOW.timestamp())
    for one in (looker, again):
        ((_, outcome),) = (await one.look(given, PODS, NOW.timestamp() + 30)).counts
        assert isinstance(outcome, Outcome)
        assert (outcome.passed, outcome.message) == (False, "job: Job web-2-job-1 has failed: exit code 3")
    assert len(api.writes) == 1, "a controller that begins anew finds the Job"


async def test_a_job_that_may_not_be_made_is_said(api: FakeApi, lookers: Lookers) -> None:
    given = release(Analysis(checks=(JOB,)))
    given = msgspec.structs.replace(given, status=msgspec.structs.replace(given.status, step=1))
    looker = await lookers.open(given, PODS, "app", NOW.timestamp())

    def refuse(verb: str, ref: Ref) -> None:
        raise ApiError(403, "Forbidden", "no", verb=verb, ref=ref)

    api.before = refuse
    found = await looker.look(given, PODS, NOW.timestamp() + 10)
    assert found.counts == ()
    assert found.problems[0].startswith("job: its Job can't be run: ")
