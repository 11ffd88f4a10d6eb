"""Waiting for something to become true."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from davylamp.embedded.errors import EmbeddedError

T = TypeVar("T")

POLL = 0.05


def wait(predicate: Callable[[], T], timeout: float = 30.0, what: str = "", *, every: float = POLL) -> T:
    """Calls ``predicate`` (``every`` s) until it is true, and returns its answer; EmbeddedError after ``timeout`` s.

    An EmbeddedError of the predicate itself (kubectl: not found yet) counts as "not yet".
    """
    deadline = time.monotonic() + timeout
    while True:
        problem: object
        try:
            if found := predicate():
                return found
            problem = found
        except EmbeddedError as error:
            problem = error
        if time.monotonic() > deadline:
            raise EmbeddedError(f"waited {timeout:g} s for {what or 'a condition'}; the last answer was {problem!r}")
        time.sleep(every)
