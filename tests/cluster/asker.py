"""A client inside the cluster that sends requests of several kinds, mixed, and counts who answers which.

One line of JSON in (`Job`), one line out (a list of `suite.Answers`, in the order of the kinds). The order of the
requests is shuffled: a proxy that deals them out by turns (Traefik) would otherwise give each kind another version.
A connection is given up after some requests, so that those who choose by connection (TCP) choose often.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import sys
from typing import Any

import msgspec

from davylamp.embedded.calls import Calls
from davylamp.embedded.load.exchanges import Answer, Exchanges, Parser

CONNECTIONS = 8
TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
TLS.check_hostname, TLS.verify_mode = False, ssl.CERT_NONE
TIMEOUT = 10.0


class Kind(msgspec.Struct, frozen=True):
    """What to send to an address, so many times: HTTP/1.1, or with `call` a gRPC call of this head; with `sni` by TLS,
    for this name, whatever the certificate."""

    address: tuple[str, int]
    head: str
    number: int
    call: bool = False
    sni: str = ""


class Job(msgspec.Struct, frozen=True):
    kinds: list[Kind]
    keep: int = 50
    """Requests of one connection."""


class Tally(msgspec.Struct):
    """What became of one kind's requests."""

    versions: dict[str, int] = {}
    statuses: dict[int, int] = {}
    lost: int = 0

    def count(self, answer: Answer | None) -> None:
        if answer is None:
            self.lost += 1
            return
        self.versions[answer.version] = self.versions.get(answer.version, 0) + 1
        self.statuses[answer.status] = self.statuses.get(answer.status, 0) + 1


class Open(msgspec.Struct):
    """A connection, and how many requests it has had."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    exchanges: Exchanges
    used: int = 0


class Client:
    """Connections to a few addresses, one for each at a time."""

    def __init__(self, keep: int) -> None:
        self.keep = keep
        self.open: dict[tuple[str, int], Open] = {}

    async def ask(self, kind: Kind) -> Answer | None:
        try:
            async with asyncio.timeout(TIMEOUT):
                return await self._ask(kind)
        except (OSError, TimeoutError, ValueError):
            self.close(kind.address)
            return None

    async def _ask(self, kind: Kind) -> Answer | None:
        if kind.address not in self.open:
            self.open[kind.address] = await _opened(kind)
        one = self.open[kind.address]
        one.used += 1
        one.writer.write(one.exchanges.request(kind.head))
        answer = None
        while answer is None:
            data = await one.reader.read(65536)
            if not data:
                self.close(kind.address)
                return None
            answer = one.exchanges.feed(data)
        one.writer.write(one.exchanges.reply())
        if not answer.keep_alive or one.used == self.keep:
            self.close(kind.address)
        return answer

    def close(self, address: tuple[str, int]) -> None:
        if address in self.open:
            self.open.pop(address).writer.close()


async def _opened(kind: Kind) -> Open:
    named: dict[str, Any] = {"ssl": TLS, "server_hostname": kind.sni} if kind.sni else {}
    reader, writer = await asyncio.open_connection(*kind.address, **named)
    return Open(reader, writer, Calls() if kind.call else Parser())


async def done(job: Job) -> list[Tally]:
    tallies = [Tally() for _ in job.kinds]
    left = [index for index, kind in enumerate(job.kinds) for _ in range(kind.number)]
    random.shuffle(left)

    async def work() -> None:
        client = Client(job.keep)
        while left:
            index = left.pop()
            tallies[index].count(await client.ask(job.kinds[index]))
        for address in list(client.open):
            client.close(address)

    await asyncio.gather(*(work() for _ in range(CONNECTIONS)))
    return tallies


def main() -> None:
    for line in sys.stdin:
        print(msgspec.json.encode(asyncio.run(done(msgspec.json.decode(line, type=Job)))).decode(), flush=True)


if __name__ == "__main__":
    main()
