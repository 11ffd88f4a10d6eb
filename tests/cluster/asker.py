"""A client inside the cluster that sends requests of several kinds, mixed, and counts who answers which.

One line of JSON in (`Job`), one line out (a list of `suite.Answers`, in the order of the kinds). The order of the
requests is shuffled: a proxy that deals them out by turns (Traefik) would otherwise give each kind another version.
A connection is given up after some requests, so that those who choose by connection (TCP) choose often.
"""

from __future__ import annotations

import asyncio
import random
import sys

import msgspec

from davylamp.embedded.load import Answer, Parser

CONNECTIONS = 8
TIMEOUT = 10.0


class Kind(msgspec.Struct, frozen=True):
    """Bytes to send to an address, so many times."""

    address: tuple[str, int]
    head: str
    number: int


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


class Client:
    """Connections to a few addresses, one for each at a time."""

    def __init__(self, keep: int) -> None:
        self.keep = keep
        self.open: dict[tuple[str, int], tuple[asyncio.StreamReader, asyncio.StreamWriter, int]] = {}

    async def ask(self, kind: Kind) -> Answer | None:
        try:
            async with asyncio.timeout(TIMEOUT):
                return await self._ask(kind)
        except (OSError, TimeoutError, ValueError):
            self.close(kind.address)
            return None

    async def _ask(self, kind: Kind) -> Answer | None:
        if kind.address not in self.open:
            self.open[kind.address] = (*await asyncio.open_connection(*kind.address), 0)
        reader, writer, used = self.open[kind.address]
        writer.write(kind.head.encode())
        parser, answer = Parser(), None
        while answer is None:
            data = await reader.read(65536)
            if not data:
                self.close(kind.address)
                return None
            answer = parser.feed(data)
        if answer.keep_alive and used + 1 < self.keep:
            self.open[kind.address] = (reader, writer, used + 1)
        else:
            self.close(kind.address)
        return answer

    def close(self, address: tuple[str, int]) -> None:
        if address in self.open:
            self.open.pop(address)[1].close()


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
