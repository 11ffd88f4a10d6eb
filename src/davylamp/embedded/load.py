"""A load generator that hides nothing: open loop, no retries, every request accounted for.

Requests are due at fixed times. One that finds all connections busy gets a new connection (up to a limit)
rather than waiting for an old one, and its latency counts from when it was due: a slow server does not slow
the load, nor hide in it.

Each request ends as exactly one of
  answered  by its status; `failed` are those of 5xx among them
  lost      no answer: could not connect, the connection was closed or reset, or the timeout was over
"""

from __future__ import annotations

import asyncio
import copy
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import msgspec

from davylamp.embedded.errors import EmbeddedError

NO_VERSION = "-"  # for answers without an X-Version header: the proxy's own


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    url: str
    host: str = ""  # the Host header; the URL's if empty
    rps: float = 100.0
    seconds: float | None = None  # None: until told to stop
    connections: int = 8  # kept open
    max_connections: int = 512
    headers: tuple[tuple[str, str], ...] = ()
    call: str = ""  # the path of a gRPC call that each request is, over HTTP/2
    timeout: float = 10.0
    report: float | None = None  # seconds between two lines


class Counts(msgspec.Struct):
    """What happened to requests. ``t`` is seconds since the start; all else counts requests."""

    t: float = 0.0
    sent: int = 0
    by_version: Counter[str] = msgspec.field(default_factory=Counter)
    failed_by_version: Counter[str] = msgspec.field(default_factory=Counter)
    statuses: Counter[str] = msgspec.field(default_factory=Counter)
    lost: int = 0
    failed: int = 0

    @property
    def answered(self) -> int:
        return self.statuses.total()

    def share(self, version: str) -> float:
        """The part of all answers that came from this version, 0 to 1; 0 while there are none."""
        return self.by_version[version] / self.answered if self.answered else 0.0

    def add(self, other: Counts) -> None:
        self.t = max(self.t, other.t)
        self.sent += other.sent
        self.by_version += other.by_version
        self.failed_by_version += other.failed_by_version
        self.statuses += other.statuses
        self.lost += other.lost
        self.failed += other.failed

    def minus(self, earlier: Counts) -> Counts:
        """What happened between two snapshots."""
        return Counts(
            t=self.t - earlier.t,
            sent=self.sent - earlier.sent,
            by_version=self.by_version - earlier.by_version,
            failed_by_version=self.failed_by_version - earlier.failed_by_version,
            statuses=self.statuses - earlier.statuses,
            lost=self.lost - earlier.lost,
            failed=self.failed - earlier.failed,
        )


class Summary(Counts):
    """All of a run. Latencies, in milliseconds, are of answered requests."""

    p50_ms: float = 0.0
    p99_ms: float = 0.0
    losses: Counter[str] = msgspec.field(default_factory=Counter)  # why requests were lost


class Answer(msgspec.Struct, frozen=True):
    status: int
    version: str
    keep_alive: bool


class Exchanges(Protocol):
    """A connection's requests and answers as bytes, one at a time."""

    over: bool
    """The server wants no more requests on it."""

    def request(self, head: str) -> bytes:
        """What to send for the next one, of which this is the head, as HTTP/1.1 writes it."""

    def feed(self, data: bytes) -> Answer | None:
        """An answer once it is whole. Raises ValueError for what is none."""

    def reply(self) -> bytes:
        """What has to be sent for the protocol's own sake."""


class Parser:
    """`Exchanges` in HTTP/1.1. We don't pipeline."""

    def __init__(self) -> None:
        self.buffer = b""
        self.over = False

    def request(self, head: str) -> bytes:
        return head.encode()

    def reply(self) -> bytes:
        return b""

    def feed(self, data: bytes) -> Answer | None:
        """An answer once it is whole. Raises ValueError for what is not HTTP/1.1, or has no length."""
        self.buffer += data
        head, found, body = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return None
        first, *lines = head.decode("latin-1").split("\r\n")
        protocol, _, rest = first.partition(" ")
        if not protocol.startswith("HTTP/1."):
            raise ValueError(f"not an HTTP/1.1 answer: {first[:60]!r}")
        status = int(rest[:3])
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if "content-length" in headers:
            end = int(headers["content-length"])
        elif headers.get("transfer-encoding", "").lower() == "chunked":
            if (length := _chunked_length(body)) is None:
                return None
            end = length
        elif status in (204, 304):
            end = 0
        else:
            raise ValueError("an answer with neither Content-Length nor chunks")
        if len(body) < end:
            return None
        self.buffer = body[end:]
        keep_alive = headers.get("connection", "").lower() != "close"
        return Answer(status, headers.get("x-version", NO_VERSION), keep_alive)


def _chunked_length(body: bytes) -> int | None:
    """How many bytes a chunked body takes, or None if it is not whole. Trailers are not expected."""
    position = 0
    while True:
        line_end = body.find(b"\r\n", position)
        if line_end < 0:
            return None
        size = int(body[position:line_end].partition(b";")[0], 16)
        position = line_end + 2 + size + 2
        if position > len(body):
            return None
        if size == 0:
            return position


class Connection(asyncio.Protocol):
    """One connection: at most one request at a time."""

    def __init__(self, generator: Generator) -> None:
        self.generator = generator
        self.transport: asyncio.Transport | None = None
        self.due: float | None = None  # of the request under way
        self.exchanges = generator.exchanges()
        self.timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def send(self, due: float) -> None:
        assert self.transport is not None
        self.due = due
        self.timer = asyncio.get_running_loop().call_later(self.generator.settings.timeout, self.drop, "timeout")
        self.transport.write(self.exchanges.request(self.generator.request))

    def data_received(self, data: bytes) -> None:
        try:
            answer = self.exchanges.feed(data)
        except ValueError as error:
            return self.drop(str(error))
        if self.transport and (reply := self.exchanges.reply()):
            self.transport.write(reply)
        if answer is None:
            return self.drop("closed by the server") if self.exchanges.over and self.due is None else None
        if self.due is None:
            return self.drop("an answer without a request")
        due, self.due = self.due, None
        if self.timer:
            self.timer.cancel()
        self.generator.answered(answer, due)
        if answer.keep_alive:
            self.generator.free(self)
        else:
            self.drop("closed by the server")
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        self.drop("reset" if isinstance(exc, ConnectionError) else "closed by the server")

    def drop(self, reason: str) -> None:
        """Ends the connection; a request under way is lost."""
        if self.timer:
            self.timer.cancel()
        if self.due is not None:
            self.due = None
            self.generator.lose(reason)
        if self.transport:
            self.transport.abort()
            self.transport = None
            self.generator.ended(self)


class Generator:
    """A run: the schedule, the connections, and the books."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        url = urlsplit(settings.url)
        self.address = (url.hostname or "127.0.0.1", url.port or 80)
        self.request = request_head(settings)
        self.idle: list[Connection] = []
        self.open = 0  # connected or connecting
        self.waiting: deque[float] = deque()  # due times of requests without a connection
        self.tasks: set[asyncio.Task[None]] = set()
        self.total = Summary()
        self.interval = Counts()
        self.one_ended = asyncio.Event()
        self.latencies: Counter[int] = Counter()  # by tenths of a millisecond

    def exchanges(self) -> Exchanges:
        if not self.settings.call:
            return Parser()
        from davylamp.embedded.calls import Calls  # a library that others need not load

        return Calls()

    # -- the books ---------------------------------------------------------------------------------

    def answered(self, answer: Answer, due: float) -> None:
        self.latencies[round((time.perf_counter() - due) * 10_000)] += 1
        count = self.interval
        count.by_version[answer.version] += 1
        count.statuses[str(answer.status)] += 1
        if answer.status >= 500:
            count.failed += 1
            count.failed_by_version[answer.version] += 1
        self.one_ended.set()

    def lose(self, reason: str) -> None:
        self.interval.lost += 1
        self.total.losses[reason] += 1
        self.one_ended.set()

    def close_interval(self, began: float) -> Counts:
        """What happened since the last call, added to the total."""
        closed, self.interval = self.interval, Counts()
        closed.t = round(time.perf_counter() - began, 3)
        self.total.add(closed)
        return closed

    # -- connections -------------------------------------------------------------------------------

    def issue(self, due: float) -> None:
        self.interval.sent += 1
        if self.idle:
            self.idle.pop().send(due)  # the one used last: surplus ones stay idle and can be closed
        else:
            self.waiting.append(due)
            if self.open < self.settings.max_connections:
                self.connect()

    def connect(self) -> None:
        self.open += 1
        task = asyncio.create_task(self._connect())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _connect(self) -> None:
        connection = Connection(self)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.settings.timeout):
                await loop.create_connection(lambda: connection, *self.address)
        except (OSError, TimeoutError) as error:
            self.open -= 1
            if self.waiting:
                self.waiting.popleft()
                self.lose(f"connect: {error.strerror if isinstance(error, OSError) else 'timeout'}")
            return
        self.free(connection)

    def free(self, connection: Connection) -> None:
        if connection.transport is None:
            return  # it was lost just now
        if self.waiting:
            connection.send(self.waiting.popleft())
        else:
            self.idle.append(connection)

    def ended(self, connection: Connection) -> None:
        self.open -= 1
        if connection in self.idle:
            self.idle.remove(connection)
        if len(self.waiting) > len(self.tasks):  # requests that no connection under way is meant for
            self.connect()

    # -- the run -----------------------------------------------------------------------------------

    async def run(self, stopping: asyncio.Event) -> Summary:
        """Until ``stopping`` or the time is up, and the requests under way are answered."""
        settings = self.settings
        for _ in range(settings.connections):
            self.connect()
        began = time.perf_counter()
        reporter = asyncio.create_task(self._report(began)) if settings.report else None
        issued = 0
        while not stopping.is_set():
            elapsed = time.perf_counter() - began
            over = settings.seconds is not None and elapsed >= settings.seconds
            while issued / settings.rps <= min(elapsed, settings.seconds or elapsed):
                self.issue(began + issued / settings.rps)
                issued += 1
            if over:
                break
            await _pause(stopping, began + issued / settings.rps - time.perf_counter())
        while self.interval.sent + self.total.sent > self._ended():
            self.one_ended.clear()
            await self.one_ended.wait()  # each ends by an answer, a loss or its timeout
        if reporter:
            reporter.cancel()
            self._print(self.close_interval(began))
        else:
            self.close_interval(began)
        self.total.p50_ms, self.total.p99_ms = (percentile(self.latencies, q) / 10 for q in (0.5, 0.99))
        return self.total

    def _ended(self) -> int:
        return sum(c.answered + c.lost for c in (self.interval, self.total))

    async def _report(self, began: float) -> None:
        while self.settings.report:
            await asyncio.sleep(self.settings.report)
            self._print(self.close_interval(began))

    @staticmethod
    def _print(counts: Counts) -> None:
        print(msgspec.json.encode(counts).decode(), flush=True)


async def _pause(stopping: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            await stopping.wait()
    except TimeoutError:
        pass


def request_head(settings: Settings) -> str:
    url = urlsplit(settings.url)
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    headers = {"Host": settings.host or url.netloc, **dict(settings.headers)}
    return head_of(settings.call or path, headers, call=bool(settings.call))


def head_of(path: str, headers: Mapping[str, str], *, call: bool = False) -> str:
    """A request's head, as HTTP/1.1 writes it, of a GET or of a gRPC call."""
    all_of_them = {**headers, **({"Content-Type": "application/grpc", "TE": "trailers"} if call else {})}
    lines = [f"{name}: {value}" for name, value in all_of_them.items()]
    return "\r\n".join([f"{'POST' if call else 'GET'} {path} HTTP/1.1", *lines, "", ""])


def percentile(counts: Mapping[int, int], q: float) -> int:
    """The smallest value with at least the share ``q`` of all at or below it; 0 if there are none."""
    wanted, seen = q * sum(counts.values()), 0
    for value in sorted(counts):
        seen += counts[value]
        if seen >= wanted:
            return value
    return 0


def run(settings: Settings, *, as_json: bool) -> None:
    """The command: until SIGINT, SIGTERM or the time is up; the summary goes to stdout."""

    async def main() -> Summary:
        stopping = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stopping.set)
        return await Generator(settings).run(stopping)

    summary = asyncio.run(main())
    if as_json:
        print(msgspec.json.encode({"summary": summary}).decode(), flush=True)
    else:
        print(describe(summary))


def describe(summary: Summary) -> str:
    versions = ", ".join(f"{v} {100 * summary.share(v):.1f} %" for v in sorted(summary.by_version))
    lines = [
        f"{summary.sent} requests in {summary.t:.1f} s: {summary.lost} lost, {summary.failed} failed (5xx)",
        f"answered by {versions or 'nobody'}; p50 {summary.p50_ms:.1f} ms, p99 {summary.p99_ms:.1f} ms",
    ]
    lines += [f"lost: {reason}: {count}" for reason, count in summary.losses.most_common()]
    return "\n".join(lines)


def read_line(line: str | bytes) -> Counts | Summary:
    """A line of the command's JSON output: an interval's counts, or at the end the summary."""
    found = msgspec.json.decode(line)
    if "summary" in found:
        return msgspec.convert(found["summary"], Summary, dec_hook=_counter)
    return msgspec.convert(found, Counts, dec_hook=_counter)


def _counter(kind: type, value: dict[str, int]) -> Counter[str]:
    """msgspec knows dicts, but not that a Counter is one; no other type comes here."""
    return Counter(value)


class Place(Protocol):
    """Where pods can be reached: a cluster that starts processes in its own network."""

    @property
    def inside_traefik_url(self) -> str: ...

    def spawn(self, command: Sequence[str | Path], **popen: Any) -> subprocess.Popen[Any]: ...


class Load:
    """The load generator as a subprocess beside a cluster's pods, and its counts so far.

    >>> with Load(lab, host="shop.example", rps=100) as load:        # doctest: +SKIP
    ...     before = load.snapshot()
    ...     lab.wait(lambda: load.snapshot().minus(before).share("v2") > 0.08, 10)
    ... assert load.summary.lost == 0
    """

    def __init__(
        self,
        place: Place,
        *,
        host: str,
        rps: float = 100.0,
        url: str | None = None,
        headers: Mapping[str, str] | None = None,
        call: str = "",
        connections: int = 8,
        report: float = 0.2,
    ) -> None:
        """``url`` is Traefik's entry point if left out. ``report``: seconds that a snapshot can be behind.
        ``call`` is the path of a gRPC call that each request is."""
        settings = Settings(
            url=url or place.inside_traefik_url,
            host=host,
            rps=rps,
            headers=tuple((headers or {}).items()),
            call=call,
            connections=connections,
            report=report,
        )
        command = [sys.executable, "-m", __name__, msgspec.json.encode(settings).decode()]
        self.process = place.spawn(command, stdout=subprocess.PIPE, text=True)
        self.counts = Counts()
        self.summary = Summary()
        self.lock = threading.Lock()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            found = read_line(line)
            with self.lock:
                if isinstance(found, Summary):
                    self.summary = found
                else:
                    self.counts.add(found)

    def snapshot(self) -> Counts:
        """The counts since the start. Raises EmbeddedError if the generator has died."""
        if (code := self.process.poll()) is not None:
            raise EmbeddedError(f"the load generator has ended with {code}: its error is on stderr")
        with self.lock:
            return copy.deepcopy(self.counts)

    def stop(self) -> Summary:
        """Ends the load; what was sent is answered first."""
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(30)
        self.reader.join(5)
        return self.summary

    def __enter__(self) -> Load:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


if __name__ == "__main__":
    run(msgspec.json.decode(sys.argv[1], type=Settings), as_json=True)
