"""The load generator's accounts: every request ends as an answer or as a loss, whatever the server does."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from davylamp.embedded.load.counts import NO_VERSION, Counts, Summary, describe, percentile, read_line
from davylamp.embedded.load.exchanges import Answer, Parser
from davylamp.embedded.load.generator import Generator, Settings

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

OK = b"HTTP/1.1 200 OK\r\nX-Version: v1\r\nContent-Length: 2\r\n\r\nok"
BAD = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"


def run(handler: Handler, **settings: float) -> Summary:
    """A short run against a server of our own on a free loopback port."""

    async def main() -> Summary:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await handler(reader, writer)
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        options = {"rps": 200.0, "seconds": 0.3, "timeout": 0.5, **settings}
        try:
            generator = Generator(Settings(url=f"http://127.0.0.1:{port}/", **options))  # type: ignore[arg-type]
            return await asyncio.wait_for(generator.run(asyncio.Event()), 10)
        finally:
            server.close()

    return asyncio.run(main())


def answering(*answers: bytes) -> Handler:
    """Answers each request of a connection with the next of these, over and over."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        turn = 0
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answers[turn % len(answers)])
            turn += 1

    return handler


def test_a_healthy_server_gets_the_rate_that_was_asked_for_and_loses_nothing() -> None:
    summary = run(answering(OK))
    assert summary.sent == summary.answered == summary.by_version["v1"]
    assert 60 <= summary.sent <= 61, "however late: 200 a second for 0.3 s"
    assert (summary.lost, summary.failed) == (0, 0)
    assert 0 < summary.p50_ms <= summary.p99_ms


def test_5xx_is_failed_and_not_lost() -> None:
    summary = run(answering(OK, BAD), connections=1, max_connections=1)
    assert summary.lost == 0
    assert summary.failed == summary.statuses["503"] == summary.by_version[NO_VERSION] > 0
    assert summary.failed_by_version == Counter({NO_VERSION: summary.failed})
    assert summary.answered == summary.sent


def test_a_connection_closed_instead_of_an_answer_is_one_loss() -> None:
    async def slam(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    summary = run(slam)
    assert summary.lost == summary.sent > 0
    assert summary.losses == Counter({"closed by the server": summary.lost})


def test_no_answer_is_a_loss_after_the_timeout() -> None:
    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    summary = run(mute, rps=50.0)
    assert summary.losses == Counter({"timeout": summary.sent})


def test_nobody_listening_is_a_loss_for_each_request() -> None:
    async def main() -> Summary:
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        return await Generator(Settings(url=f"http://127.0.0.1:{port}/", seconds=0.2)).run(asyncio.Event())

    summary = asyncio.run(main())
    assert summary.lost == summary.sent > 0
    assert [reason.partition(":")[0] for reason in summary.losses] == ["connect"]


def test_a_slow_server_does_not_slow_the_load() -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(0.1)
            writer.write(OK)

    summary = run(slow, connections=1)
    # One connection that waited for its answers would send 3 in that time.
    assert 60 <= summary.sent <= 61
    assert summary.p50_ms >= 100


def test_latency_counts_from_when_the_request_was_due() -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(0.05)
            writer.write(OK)

    summary = run(slow, rps=40.0, connections=1, max_connections=1, timeout=5.0)
    assert summary.lost == 0
    assert summary.p99_ms > 100  # 50 ms of work, and the wait for the one connection


def test_connection_close_is_honoured() -> None:
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))

    summary = run(once)
    assert summary.lost == 0
    assert summary.answered == summary.sent


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (OK, Answer(200, "v1", True)),
        (b"HTTP/1.1 204 No Content\r\n\r\n", Answer(204, NO_VERSION, True)),
        (
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            Answer(200, NO_VERSION, False),
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\n\r\n",
            Answer(200, NO_VERSION, True),
        ),
    ],
)
def test_an_answer_is_whole_at_its_last_byte_and_not_before(data: bytes, answer: Answer) -> None:
    parser = Parser()
    assert [parser.feed(data[i : i + 1]) for i in range(len(data))] == [None] * (len(data) - 1) + [answer]
    assert parser.buffer == b""


def test_what_is_not_http_is_an_error() -> None:
    with pytest.raises(ValueError, match="not an HTTP"):
        Parser().feed(b"SSH-2.0-x\r\n\r\n")


@pytest.mark.parametrize("counts", [Counts(t=1.5, sent=2, by_version=Counter(v1=2)), Summary(p99_ms=3.5)])
def test_a_line_of_output_is_read_back_as_what_was_written(counts: Counts) -> None:
    written = {"summary": counts} if isinstance(counts, Summary) else counts
    assert read_line(msgspec.json.encode(written)) == counts


def test_shares_and_differences_of_counts() -> None:
    before = Counts(t=1, sent=10, by_version=Counter(v1=10), statuses=Counter({"200": 10}))
    after = Counts(t=2, sent=20, by_version=Counter(v1=15, v2=5), statuses=Counter({"200": 20}))
    between = after.minus(before)
    assert (between.t, between.sent, between.share("v2"), between.share("v3")) == (1, 10, 0.5, 0.0)
    assert Counts().share("v1") == 0.0


@pytest.mark.parametrize(("q", "value"), [(0.5, 1), (0.99, 7), (1.0, 9)])
def test_percentile_is_the_smallest_value_that_covers_the_share(q: float, value: int) -> None:
    assert percentile({9: 1, 1: 60, 7: 39}, q) == value


def test_the_summary_names_what_was_lost() -> None:
    summary = Summary(sent=3, lost=1, statuses=Counter({"200": 2}), by_version=Counter(v1=2))
    summary.losses = Counter({"timeout": 1})
    assert "1 lost, 0 failed" in describe(summary)
    assert "v1 100.0 %" in describe(summary)
    assert "lost: timeout: 1" in describe(summary)
