"""hellok8s over loopback, as a process started the way the kubelet starts it."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from davylamp.embedded import hellok8s
from davylamp.embedded.load.counts import Summary
from davylamp.embedded.load.generator import Generator, Settings
from davylamp.embedded.waiting import wait

Start = Callable[..., "Server"]


class Server:
    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process, self.port = process, port

    def exchange(self, data: bytes) -> bytes:
        """Sends bytes on a new connection, and reads until the server closes it."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(data)
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
            return answer

    def get(self, path: str, *headers: str) -> tuple[int, str]:
        lines = [f"GET {path} HTTP/1.1", "Host: x", "Connection: close", *headers]
        head, _, body = self.exchange("\r\n".join([*lines, "", ""]).encode()).decode().partition("\r\n\r\n")
        return int(head.split(" ")[1]), body


@pytest.fixture
def start() -> Iterator[Start]:
    processes: list[subprocess.Popen[str]] = []

    def begin(**env: str) -> Server:
        process = subprocess.Popen(
            [sys.executable, "-S", "-E", "-P", hellok8s.__file__],
            env={"PORT": "0", "VERSION": "v1", "POD_NAME": "web-1", "DRAIN_SECONDS": "0.3", **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        processes.append(process)
        assert process.stdout
        line = process.stdout.readline()
        found = re.search(r"listening on 127\.0\.0\.1:(\d+)", line)
        assert found, line
        return Server(process, int(found[1]))

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def test_says_its_version_and_pod_in_text_json_and_headers(start: Start) -> None:
    server = start()
    assert server.get("/") == (200, "hello, version v1, pod web-1\n")
    assert server.get("/", "Accept: application/json") == (
        200,
        '{"message": "hello", "version": "v1", "pod": "web-1"}\n',
    )
    answer = server.exchange(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert b"X-Version: v1\r\n" in answer
    assert b"X-Pod: web-1\r\n" in answer


def test_pipelined_requests_are_answered_in_their_order_even_when_slow(start: Start) -> None:
    server = start(LATENCY_MS="20")
    answer = server.exchange(
        b"GET / HTTP/1.1\r\n\r\n"
        b"POST /nowhere HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"
        b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n"
    )
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200", b"404", b"200"]
    assert answer.endswith(b"ok\n")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
    ],
)
def test_refuses_what_is_not_http(start: Start, request_bytes: bytes) -> None:
    assert start().exchange(request_bytes).startswith(b"HTTP/1.1 400 ")


def test_error_rate_1_fails_every_request_to_the_root_and_counts_them(start: Start) -> None:
    server = start(ERROR_RATE="1")
    assert [server.get("/")[0] for _ in range(3)] == [500, 500, 500]
    assert server.get("/healthz")[0] == 200
    metrics = server.get("/metrics")[1]
    assert 'http_requests_total{method="GET",path="/",status="500"} 3' in metrics
    assert 'http_request_duration_seconds_bucket{status="500",le="+Inf"} 3' in metrics
    assert 'http_request_duration_seconds_count{status="500"} 3' in metrics


def test_latency_is_in_the_histogram_above_its_bound(start: Start) -> None:
    server = start(LATENCY_MS="30")
    server.get("/")
    metrics = server.get("/metrics")[1]
    assert 'http_request_duration_seconds_bucket{status="200",le="0.01"} 0' in metrics
    assert 'http_request_duration_seconds_bucket{status="200",le="+Inf"} 1' in metrics


@pytest.mark.parametrize("env", [{"UNREADY": "1"}, {"STARTUP_DELAY": "60"}])
def test_can_be_kept_unready_while_it_serves(start: Start, env: dict[str, str]) -> None:
    server = start(**env)
    assert server.get("/healthz")[0] == 503
    assert server.get("/")[0] == 200


def test_after_sigterm_it_is_unready_and_answers_until_the_drain_is_over(start: Start) -> None:
    server = start()
    server.process.send_signal(signal.SIGTERM)
    wait(lambda: server.get("/healthz")[0] == 503, 5, "unready")
    assert server.get("/")[0] == 200
    assert server.process.wait(5) == 0


def test_a_request_under_way_at_the_end_of_the_drain_is_answered(start: Start) -> None:
    server = start(LATENCY_MS="500", DRAIN_SECONDS="0.05")
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        # It is under way once a second connection, accepted later, is answered.
        server.get("/healthz")
        server.process.send_signal(signal.SIGTERM)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
    assert server.process.wait(5) == 0


def test_crash_prints_a_fatal_line_and_exits_with_the_code() -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-E", "-P", hellok8s.__file__],
        env={"CRASH": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    assert "FATAL: could not connect to database" in done.stderr


def test_writes_a_line_for_each_request_unless_told_not_to(start: Start) -> None:
    loud, quiet = start(), start(ACCESS_LOG="off")
    for server in (loud, quiet):
        server.get("/")
        server.process.terminate()
        server.process.wait(5)
    assert loud.process.stdout
    assert quiet.process.stdout
    assert "GET / 200" in loud.process.stdout.read()
    assert "GET / 200" not in quiet.process.stdout.read()


def _calls(port: int, **settings: float) -> Summary:
    options = Settings(url=f"http://127.0.0.1:{port}/", call=hellok8s.CALL, **settings)  # type: ignore[arg-type]
    return asyncio.run(Generator(options).run(asyncio.Event()))


def test_answers_grpc_calls_and_http_1_on_one_port(start: Start) -> None:
    server = start(GRPC="1")
    summary = _calls(server.port, rps=200, seconds=0.3)
    assert summary.by_version == {"v1": summary.sent}
    assert summary.statuses == {"200": summary.sent}
    assert f'path="other",status="200"}} {summary.sent}' in server.get("/metrics")[1]
    failing = start(GRPC="1", ERROR_RATE="1")
    assert set(_calls(failing.port, rps=100, seconds=0.1).statuses) == {"500"}


def test_a_drain_loses_no_call(start: Start) -> None:
    server = start(GRPC="1", DRAIN_SECONDS="1.5")
    under_way = threading.Timer(0.4, server.process.terminate)
    under_way.start()
    summary = _calls(server.port, rps=200, seconds=0.8, connections=2)
    assert (summary.lost, summary.failed, summary.statuses) == (0, 0, {"200": summary.sent})
    assert server.process.wait(10) == 0
