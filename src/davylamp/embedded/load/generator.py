"""The generator itself; as a program it takes its `Settings` as JSON: `python -m davylamp.embedded.load.generator`."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections import Counter, deque
from urllib.parse import urlsplit

import msgspec

from davylamp.embedded.load.counts import Counts, Summary, describe, percentile
from davylamp.embedded.load.exchanges import Answer, Exchanges, Parser, head_of


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


if __name__ == "__main__":
    run(msgspec.json.decode(sys.argv[1], type=Settings), as_json=True)
