"""Prometheus' API against a server that answers as told: answers, refusals, outages and what is wrong with queries."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestServer

from davylamp.api.analysis import BasicAuth, Key, Prometheus, Tls
from davylamp.signals.addresses import LOOPBACK
from davylamp.signals.fetch import Unavailable, client
from davylamp.signals.prometheus import Access, QueryError, Series, access, by_pod, instant, one_value, over

Handler = Callable[[web.Request], Any]
INF, NAN = float("inf"), float("nan")


def vector(*series: tuple[dict[str, str], str]) -> dict[str, Any]:
    result = [{"metric": labels, "value": [1763940000.1, value]} for labels, value in series]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


class Server:
    """Gives its answers one after another; the last again and again."""

    def __init__(self) -> None:
        self.answers: list[web.Response] = []
        self.asked: list[dict[str, str]] = []
        self.waits: list[float] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        form = await request.post()
        self.asked.append({key: str(value) for key, value in form.items()} | {"path": request.path})
        self.asked[-1] |= {name: request.headers.get(name, "") for name in ("Authorization", "X-Scope-OrgID")}
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return web.Response(status=answer.status, body=answer.body, headers=answer.headers)

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)

    async def query(self, text: str = "up", **more: Any) -> list[Series]:
        async with client(LOOPBACK) as session:
            return await instant(session, Access(self.url, **more), text, "check errors", sleep=self.sleep)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    found = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", found.answer)
    async with TestServer(app) as running:
        found.url = str(running.make_url("/prom"))
        yield found


def text(body: str, status: int = 200, **headers: str) -> web.Response:
    return web.Response(text=body, status=status, headers=headers)


async def test_a_vector_comes_as_series(server: Server) -> None:
    server.answers = [web.json_response(vector(({"pod": "a"}, "2.5"), ({"pod": "b"}, "+Inf")))]
    found = await server.query("sum by (pod) (x)", headers={"Authorization": "Bearer t", "X-Scope-OrgID": "shop"})
    assert [(one.labels, one.value) for one in found] == [({"pod": "a"}, 2.5), ({"pod": "b"}, INF)]
    (asked,) = server.asked
    assert (asked["path"], asked["query"]) == ("/prom/api/v1/query", "sum by (pod) (x)")
    assert (asked["Authorization"], asked["X-Scope-OrgID"]) == ("Bearer t", "shop")


async def test_a_scalar_is_one_series(server: Server) -> None:
    server.answers = [text('{"status":"success","data":{"resultType":"scalar","result":[1763940000,"42"]}}')]
    assert [one.value for one in await server.query("42")] == [42]


async def test_a_range_comes_with_its_times_and_gaps(server: Server) -> None:
    result = [{"metric": {}, "values": [[10, "1"], [20, "2"], [50, "NaN"]]}]
    server.answers = [web.json_response({"status": "success", "data": {"resultType": "matrix", "result": result}})]
    async with client(LOOPBACK) as session:
        (one,) = await over(session, Access(server.url), "x", "check", start=10, end=50, step=10)
    assert [at for at, _ in one.values] == [10, 20, 50]
    assert {name: server.asked[0][name] for name in ("start", "end", "step")} == {
        "start": "10.000",
        "end": "50.000",
        "step": "10.000",
    }


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_an_outage_is_tried_again(server: Server, status: int) -> None:
    server.answers = [text("upstream is away", status), text("upstream is away", status), web.json_response(vector())]
    assert await server.query() == []
    first, second = server.waits
    assert 0.25 <= first <= 0.5 <= second <= 1


async def test_an_outage_that_lasts_is_said_after_four_tries(server: Server) -> None:
    server.answers = [text("", 503)]
    with pytest.raises(Unavailable, match=r"check errors: .*/api/v1/query answers 503") as raised:
        await server.query()
    assert (len(server.asked), raised.value.again) == (4, True)


async def test_a_server_that_says_when_is_asked_then(server: Server) -> None:
    headers = {"Retry-After": "7"}
    server.answers = [text("", 429, **headers), text("", 429, **{"Retry-After": "3600"}), web.json_response(vector())]
    await server.query()
    assert server.waits == [7, 10]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            web.json_response({"status": "error", "errorType": "bad_data", "error": "1:5: parse error"}, status=400),
            "check errors: 1:5: parse error; the query is: rate(x",
        ),
        (
            web.json_response({"status": "error", "errorType": "execution", "error": "many-to-many"}, status=422),
            "check errors: many-to-many; the query is: rate(x",
        ),
        (
            web.json_response({"status": "error", "errorType": "execution", "error": "many-to-many"}, status=500),
            "check errors: many-to-many; the query is: rate(x",
        ),
    ],
)
async def test_a_wrong_query_is_named_and_not_repeated(server: Server, answer: web.Response, message: str) -> None:
    server.answers = [answer]
    with pytest.raises(QueryError) as raised:
        await server.query("rate(x")
    assert message in str(raised.value)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("answer", "message", "tries"),
    [
        (text("no", 401), "answers 401: it wants other credentials", 1),
        (text("no", 403), "answers 403: it wants other credentials", 1),
        (text("404 page not found", 404), 'answers 404, and not as Prometheus does: "404 page not found"', 1),
        (text("<html>Grafana</html>"), 'answers 200, and not as Prometheus does: "<html>Grafana', 1),
        (text('{"status":"success","data":{"result":7}}'), "data that can't be read", 1),
        (web.json_response(vector() | {"warnings": ["store 3 is away"]}), r"partial \(store 3 is away\)", 4),
        (web.json_response(vector() | {"isPartial": True}), "says that its answer is partial", 4),
    ],
)
async def test_what_is_no_answer_says_so(server: Server, answer: web.Response, message: str, tries: int) -> None:
    server.answers = [answer]
    with pytest.raises(Unavailable, match=message):
        await server.query()
    assert len(server.asked) == tries


async def test_nobody_there_is_tried_again_and_said() -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async with client(LOOPBACK) as session:
        with pytest.raises(Unavailable, match=r"check errors: http://127\.0\.0\.1:1/api/v1/query"):
            await instant(session, Access("http://127.0.0.1:1"), "up", "check errors", sleep=sleep)
    assert len(waits) == 3


@pytest.mark.parametrize(
    ("series", "value", "problem"),
    [
        ([Series({}, ((0, 0.5),))], 0.5, ""),
        ([], None, "check: no data; the query is: q"),
        (
            [Series({"pod": "a"}, ((0, 1),)), Series({"pod": "b"}, ((0, 1),))],
            None,
            "check: 2 series where one is expected",
        ),
        ([Series({}, ((0, NAN),))], None, "check: the value is NaN (0 divided by 0?); the query is: q"),
        ([Series({}, ((0, -INF),))], None, "check: the value is -Inf"),
    ],
)
def test_one_value_is_one_finite_value(series: list[Series], value: float | None, problem: str) -> None:
    found, said = one_value(series, "q", "check")
    assert found == value
    assert said.startswith(problem)


@pytest.mark.parametrize(
    ("labels", "value", "problem"),
    [
        ({"pod": "c"}, 1, ""),
        ({"pod": "a"}, 1, "check: several series of pod a; write sum by (pod) (...): q"),
        ({}, 1, "check: a series without the label pod, {}; write sum by (pod)"),
        ({"pod": "c"}, NAN, "check: the value of pod c is NaN"),
        ({"pod": "c"}, INF, "check: the value of pod c is +Inf"),
    ],
)
def test_values_by_pod_leave_out_what_is_wrong(labels: dict[str, str], value: float, problem: str) -> None:
    good = [Series({"pod": "a"}, ((0, 1),)), Series({"pod": "b"}, ((0, 2),))]
    values, problems = by_pod([*good, Series(labels, ((0, value),))], "pod", "q", "check")
    assert values["b"] == 2
    assert ("a" in values) == ("of pod a" not in problem)
    assert "".join(problems).startswith(problem)
    assert bool(problem) == bool(problems)


# --- who we are, and who they are ---


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=prom",
            "-addext",
            "subjectAltName=DNS:prom.internal",
            "-keyout",
            "key.pem",
            "-out",
            "ca.pem",
        ],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return folder


@pytest.fixture
async def secure(certificate: Path) -> AsyncIterator[BaseTestServer]:
    async def answer(request: web.Request) -> web.Response:
        return web.json_response(vector(({}, "1")))

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "ca.pem", certificate / "key.pem")
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    server = TestServer(app, scheme="https")
    await server.start_server(ssl=context)
    yield server
    await server.close()


CA = Key("prom", "ca.crt")


@pytest.mark.parametrize(
    ("tls", "problem"),
    [
        (Tls(ca=CA, server_name="prom.internal"), ""),
        (Tls(insecure=True), ""),
        (Tls(), "its certificate is not trusted"),
        (Tls(ca=CA), "its certificate is not trusted"),
    ],
)
async def test_the_server_is_known_by_its_certificate(
    secure: BaseTestServer, certificate: Path, tls: Tls, problem: str
) -> None:
    to = access(Prometheus(str(secure.make_url("")), tls=tls), {CA: (certificate / "ca.pem").read_bytes()})
    async with client(LOOPBACK) as session:
        if problem:
            with pytest.raises(Unavailable, match=problem):
                await instant(session, to, "up", "check")
        else:
            assert [one.value for one in await instant(session, to, "up", "check")] == [1]


def test_credentials_come_from_secrets() -> None:
    token, password = Key("prom", "token"), Key("prom", "password")
    secrets = {token: b"abc\n", password: b"secret"}
    assert access(Prometheus("http://p/", bearer_token=token), secrets).headers == {"Authorization": "Bearer abc"}
    basic = access(Prometheus("http://p/", basic_auth=BasicAuth("shop", password)), secrets)
    assert (basic.headers, basic.address) == ({"Authorization": "Basic c2hvcDpzZWNyZXQ="}, "http://p")


@pytest.mark.parametrize(
    ("source", "content", "problem"),
    [
        (Prometheus("http://p", bearer_token=Key("a", "b")), None, 'there is no key b in Secret "a"'),
        (Prometheus("http://p", bearer_token=Key("a", "b")), b"x\ny", 'key b of Secret "a" holds more than one line'),
        (Prometheus("http://p", tls=Tls(ca=Key("a", "b"))), b"nothing", 'key b of Secret "a" holds no certificates'),
    ],
)
def test_a_secret_that_is_missing_or_wrong_is_named(source: Prometheus, content: bytes | None, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        access(source, {Key("a", "b"): content} if content is not None else {})
