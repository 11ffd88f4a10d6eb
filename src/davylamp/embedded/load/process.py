"""The generator as a process beside a cluster's pods."""

from __future__ import annotations

import copy
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from davylamp.embedded.errors import EmbeddedError
from davylamp.embedded.load import generator
from davylamp.embedded.load.counts import Counts, Summary, read_line
from davylamp.embedded.load.generator import Settings


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
        command = [sys.executable, "-m", generator.__name__, msgspec.json.encode(settings).decode()]
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
