"""A story on the embedded cluster in virtual time, for state machines that tell any."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from davylamp.embedded.clock import LoopClock, VirtualLoop
from davylamp.embedded.status import StatusError
from tests.chaos.faulty import CONFLICT, Crash, Lost, Refused, Slow
from tests.chaos.shop import Shop, shop

T = TypeVar("T")
SOAKING = "CHAOS_EXAMPLES" in os.environ
FAULTS = st.sampled_from(
    [
        Crash("before"),
        Crash("after"),
        Lost(),
        CONFLICT,
        Refused(500, "InternalError"),
        Refused(429, "TooManyRequests"),
        Slow(7),
        Slow(90),
    ]
)


def told(examples: int, **more: Any) -> settings:
    """So many stories of 20 steps, the same each time; or as many, and others each time, as a soak asks for."""
    return settings(
        max_examples=int(os.environ.get("CHAOS_EXAMPLES", examples)),
        stateful_step_count=int(os.environ.get("CHAOS_STEPS", "20")),
        derandomize=not SOAKING,
        print_blob=True,
        **more,
    )


class Story(RuleBasedStateMachine):
    """One story. Rules do one thing each; time passes only where a rule lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        self.clock = LoopClock(self.loop)
        self._around = shop(self.clock)
        self.shop: Shop = self.run(self._around.__aenter__())

    def run(self, what: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(what)

    def do(self, deed: Callable[..., object], *args: object) -> None:
        """Something that may be refused, as for a person."""

        async def done() -> None:
            try:
                deed(*args)
            except StatusError:
                return

        self.run(done())

    @rule(seconds=st.sampled_from([0.05, 0.5, 3, 20, 70]))
    def wait(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))

    def end(self) -> None:
        """What must hold when all comes to rest. (Not where the story did not begin.)"""
        raise NotImplementedError

    @property
    def begun(self) -> bool:
        raise NotImplementedError

    def teardown(self) -> None:
        try:
            if self.begun:
                self.end()
        finally:
            self.run(self._around.__aexit__(None, None, None))
            self.loop.close()
