"""The application that the lab's pods run: a small HTTP server whose faults are set by environment variables.

One file, standard library only (but for gRPC): the kubelet starts it with `python -S -E hellok8s.py`.

| path     | answer                                                                                      |
|----------|---------------------------------------------------------------------------------------------|
| /        | 200 (or 500, see ERROR_RATE) with X-Version and X-Pod; JSON if the client accepts it, else text |
| CALL     | the same: the path of a gRPC call, here over HTTP/1.1; with GRPC=1 a real one over HTTP/2      |
| /healthz | 200, or 503 while starting, draining, or with UNREADY=1                                     |
| /metrics | Prometheus text: http_requests_total, http_request_duration_seconds, process_start_time_seconds |

| variable                     | meaning                                                                 |
|------------------------------|-------------------------------------------------------------------------|
| POD_IP, PORT                 | where to listen (127.0.0.1, 8080; PORT=0 takes any, and says which)      |
| VERSION, POD_NAME            | what the answers say (the kubelet sets VERSION to the image's tag)       |
| ERROR_RATE                   | share of requests to / that are answered 500, 0 to 1                     |
| EXCEPTION_RATE               | share of requests to / that are answered well, but log a stack trace      |
| LATENCY_MS, LATENCY_JITTER_MS| mean time to answer /, and the standard deviation around it              |
| STARTUP_DELAY                | seconds after the start before /healthz is 200                           |
| UNREADY=1                    | /healthz stays 503                                                       |
| CRASH, CRASH_AFTER           | exit with this code, after so many seconds, with a fatal log line        |
| DRAIN_SECONDS                | after SIGTERM go on answering for so long (default 3, see below)         |
| ACCESS_LOG=off               | no line on stdout for each request                                       |
| GRPC=1                       | answers gRPC calls over HTTP/2 as well (hello_calls.py)                   |
| TLS_PORT, TLS_PEM            | listens there as well, with this certificate and key (as text)           |

DRAIN_SECONDS is 3 because Traefik takes up to 2 s (its provider's throttle) to learn that an endpoint goes.
While draining, answers carry `Connection: close`: no client's next request meets a closing connection.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from bisect import bisect_left
from collections import deque

# asyncio imports ssl if it can, for 10 ms and 4 MB that nobody here needs.
if __name__ == "__main__" and "TLS_PORT" not in os.environ:
    sys.modules.setdefault("ssl", None)  # type: ignore[arg-type]
import asyncio

TYPE_CHECKING = False
if TYPE_CHECKING:  # `typing` takes 10 ms that nobody here needs
    from davylamp.embedded.hello_calls import Calls

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 431: "Request Header Fields Too Large"} | {
    500: "Internal Server Error",
    503: "Service Unavailable",
}
MAX_HEAD = 64 * 1024
CALL = "/hello.Hello/Say"
EXCEPTION = """Traceback (most recent call last):
  File "/app/cart.py", line 17, in total
    return sum(prices[item] for item in cart)
KeyError: 'discount'"""


class Settings:
    """The environment, parsed once."""

    def __init__(self, env: dict[str, str]) -> None:
        self.host = env.get("POD_IP", "127.0.0.1")
        self.port = int(env.get("PORT", "8080"))
        self.version = env.get("VERSION", "dev")
        self.pod = env.get("POD_NAME", "")
        self.error_rate = float(env.get("ERROR_RATE", "0"))
        self.exception_rate = float(env.get("EXCEPTION_RATE", "0"))
        self.latency = float(env.get("LATENCY_MS", "0")) / 1000
        self.jitter = float(env.get("LATENCY_JITTER_MS", "0")) / 1000
        self.startup_delay = float(env.get("STARTUP_DELAY", "0"))
        self.unready = env.get("UNREADY", "") in ("1", "true")
        self.crash = int(env["CRASH"]) if env.get("CRASH") else None
        self.crash_after = float(env.get("CRASH_AFTER", "0"))
        self.drain = float(env.get("DRAIN_SECONDS", "3"))
        self.tls = (int(env["TLS_PORT"]), env.get("TLS_PEM", "")) if "TLS_PORT" in env else None
        self.access_log = env.get("ACCESS_LOG", "on") != "off"


class App:
    """What all connections share: settings, counters, and whether we are starting or draining."""

    def __init__(self, settings: Settings, calls: type[Calls] | None = None) -> None:
        self.settings = settings
        self.ready = False
        self.draining = False
        self.connections: set[Connection | Calls] = set()
        self.calls: type[Calls] | None = calls
        self.unconnected = asyncio.Event()
        self.requests: dict[tuple[str, str, int], int] = {}
        self.durations: dict[int, list[float]] = {}  # status -> a count for each bucket, +Inf's, the sum
        self.started = time.time()

    def answer(self, path: str, accept: str) -> tuple[int, str, str]:
        """Status, content type and body."""
        if path == "/healthz":
            return (200, "text/plain", "ok\n") if self.healthy() else (503, "text/plain", "not ready\n")
        if path == "/metrics":
            return 200, "text/plain; version=0.0.4", self.metrics()
        if path not in ("/", CALL):
            return 404, "text/plain", "not found\n"
        version, pod = self.settings.version, self.settings.pod
        if self.settings.exception_rate and random.random() < self.settings.exception_rate:
            print(EXCEPTION, file=sys.stderr, flush=True)
        status = 500 if self.settings.error_rate and random.random() < self.settings.error_rate else 200
        if "json" in accept:
            message = "hello" if status == 200 else "something went wrong"
            body = f'{{"message": "{message}", "version": "{version}", "pod": "{pod}"}}\n'
            return status, "application/json", body
        text = "hello" if status == 200 else "something went wrong"
        return status, "text/plain", f"{text}, version {version}, pod {pod}\n"

    def healthy(self) -> bool:
        return self.ready and not self.draining and not self.settings.unready

    def delay(self, path: str) -> float:
        """Seconds that a request to / takes: normally distributed around LATENCY_MS, never negative."""
        mean, jitter = self.settings.latency, self.settings.jitter
        if path != "/" or not (mean or jitter):
            return 0.0
        return max(0.0, random.gauss(mean, jitter))

    def count(self, method: str, path: str, status: int, seconds: float) -> None:
        path = path if path in ("/", "/healthz", "/metrics") else "other"  # a scanner must not fill the metrics
        key = (method, path, status)
        self.requests[key] = self.requests.get(key, 0) + 1
        if path == "/":
            row = self.durations.setdefault(status, [0.0] * (len(BUCKETS) + 2))
            row[bisect_left(BUCKETS, seconds)] += 1
            row[-1] += seconds

    def log(self, peer: str, method: str, path: str, status: int, seconds: float) -> None:
        if self.settings.access_log and path not in ("/healthz", "/metrics"):
            level = "ERROR" if status >= 500 else "INFO"
            print(f"{level} {peer} {method} {path} {status} {seconds * 1000:.1f}ms", flush=True)

    def metrics(self) -> str:
        out = ["# HELP http_requests_total Requests answered.", "# TYPE http_requests_total counter"]
        for (method, path, status), count in sorted(self.requests.items()):
            out.append(f'http_requests_total{{method="{method}",path="{path}",status="{status}"}} {count}')
        out.append("# HELP http_request_duration_seconds Time to answer a request to /.")
        out.append("# TYPE http_request_duration_seconds histogram")
        for status, row in sorted(self.durations.items()):
            total = 0
            for bound, n in zip((*map(str, BUCKETS), "+Inf"), row[:-1], strict=True):
                total += int(n)
                out.append(f'http_request_duration_seconds_bucket{{status="{status}",le="{bound}"}} {total}')
            out.append(f'http_request_duration_seconds_sum{{status="{status}"}} {row[-1]:.6f}')
            out.append(f'http_request_duration_seconds_count{{status="{status}"}} {total}')
        out.append("# HELP process_start_time_seconds When the process started, seconds since the epoch.")
        out.append("# TYPE process_start_time_seconds gauge")
        out.append(f"process_start_time_seconds {self.started:.3f}")
        return "\n".join(out) + "\n"


class Connection(asyncio.Protocol):
    """One client. Pipelined requests are answered one after another, in their order."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.transport: asyncio.Transport | None = None
        self.buffer = b""
        self.skip = 0  # bytes of a request's body still to be thrown away
        self.waiting: deque[tuple[str, str, dict[str, str]]] = deque()
        self.busy = False
        self.peer = "-"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        peer = transport.get_extra_info("peername")
        self.peer = peer[0] if peer else "-"
        self.app.connections.add(self)
        self.app.unconnected.clear()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.app.connections.discard(self)
        if not self.app.connections:
            self.app.unconnected.set()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if self.app.calls and self.transport and self.buffer.startswith(b"PRI"):  # HTTP/2's first bytes
            self.app.connections.discard(self)
            self.app.calls(self.app, self.transport, self.buffer)
            return
        status = self.parse()
        if status is None:
            self.next()
        else:
            self.refuse(status)

    def parse(self) -> int | None:
        """Moves whole requests from the buffer to the queue; returns the status to refuse a bad one with."""
        while self.buffer:
            if self.skip:
                taken = min(self.skip, len(self.buffer))
                self.buffer, self.skip = self.buffer[taken:], self.skip - taken
                continue
            head, found, rest = self.buffer.partition(b"\r\n\r\n")
            if not found:
                return 431 if len(self.buffer) > MAX_HEAD else None
            self.buffer = rest
            lines = head.decode("latin-1").split("\r\n")
            try:
                method, target, _ = lines[0].split(" ")
                headers = {name.strip().lower(): value.strip() for name, value in (x.split(":", 1) for x in lines[1:])}
                self.skip = int(headers.get("content-length", "0"))
            except ValueError:
                return 400
            if "transfer-encoding" in headers:
                return 400  # nothing here takes a body, and chunks are not worth their code
            self.waiting.append((method, target.partition("?")[0], headers))
        return None

    def refuse(self, status: int) -> None:
        self.buffer = b""
        if self.transport:
            head = f"HTTP/1.1 {status} {REASONS[status]}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            self.transport.write(head.encode())
            self.transport.close()

    def next(self) -> None:
        while self.waiting and not self.busy:
            method, path, headers = self.waiting.popleft()
            began = time.perf_counter()
            if delay := self.app.delay(path):
                self.busy = True
                asyncio.get_running_loop().call_later(delay, self.resume, method, path, headers, began)
            else:
                self.reply(method, path, headers, began)

    def resume(self, method: str, path: str, headers: dict[str, str], began: float) -> None:
        self.busy = False
        self.reply(method, path, headers, began)
        self.next()

    def reply(self, method: str, path: str, headers: dict[str, str], began: float) -> None:
        if self.transport is None:
            return
        app = self.app
        status, kind, body = app.answer(path, headers.get("accept", ""))
        close = app.draining or headers.get("connection", "").lower() == "close"
        payload = body.encode()
        head = (
            f"HTTP/1.1 {status} {REASONS[status]}\r\n"
            f"Content-Type: {kind}\r\nContent-Length: {len(payload)}\r\n"
            f"X-Version: {app.settings.version}\r\nX-Pod: {app.settings.pod}\r\n"
            f"Connection: {'close' if close else 'keep-alive'}\r\n\r\n"
        )
        self.transport.write(head.encode() + (b"" if method == "HEAD" else payload))
        seconds = time.perf_counter() - began
        app.count(method, path, status, seconds)
        app.log(self.peer, method, path, status, seconds)
        if close:
            self.waiting.clear()
            self.transport.close()

    def idle(self) -> bool:
        return not (self.busy or self.waiting or self.buffer or self.skip)


async def serve(app: App) -> int:
    """Runs until SIGTERM or SIGINT and the drain after it; returns the exit code."""
    settings = app.settings
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    if settings.crash is not None:
        loop.call_later(settings.crash_after, crash, settings.crash)
        if not settings.crash_after:
            await stopping.wait()  # nothing is ever served; the crash comes in the loop's next turn
    # A restarted container finds its predecessor's connections in TIME_WAIT; asyncio sets SO_REUSEADDR.
    server = await loop.create_server(lambda: Connection(app), settings.host, settings.port, backlog=1024)
    secure = await listen_with_tls(app, *settings.tls) if settings.tls else None
    port = server.sockets[0].getsockname()[1]
    print(f"INFO hellok8s {settings.version} listening on {settings.host}:{port}", flush=True)
    loop.call_later(settings.startup_delay, setattr, app, "ready", True)

    await stopping.wait()
    app.draining = True
    print(f"INFO SIGTERM: draining for {settings.drain:g} s", flush=True)
    await asyncio.sleep(settings.drain)
    server.close()
    if secure:
        secure.close()
    for connection in tuple(app.connections):
        if connection.idle() and connection.transport:
            connection.transport.close()
    if app.connections:
        await app.unconnected.wait()  # requests in flight; the kubelet's SIGKILL is the limit
    return 0


async def listen_with_tls(app: App, port: int, pem: str) -> asyncio.Server:
    import ssl
    import tempfile

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with tempfile.NamedTemporaryFile("w") as file:  # it is read from nothing but files
        file.write(pem)
        file.flush()
        context.load_cert_chain(file.name)
    return await asyncio.get_running_loop().create_server(
        lambda: Connection(app), app.settings.host, port, backlog=1024, ssl=context
    )


def crash(code: int) -> None:
    print(
        "Traceback (most recent call last):\n"
        '  File "/app/main.py", line 42, in <module>\n'
        "    connect(os.environ['DATABASE_URL'])\n"
        "ConnectionError: FATAL: could not connect to database: connection refused",
        file=sys.stderr,
        flush=True,
    )
    os._exit(code)


def main() -> int:
    return asyncio.run(serve(App(Settings(dict(os.environ)), calls() if os.environ.get("GRPC") == "1" else None)))


def calls() -> type[Calls]:
    """From where libraries are installed, which `python -S` leaves out."""
    import site

    site.main()
    from davylamp.embedded.hello_calls import Calls

    return Calls


if __name__ == "__main__":
    sys.exit(main())
