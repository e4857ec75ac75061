"""Lets up where a service says that it is asked too much: one pace for all attempts that ask the same provider."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

__all__ = ["LONGEST_WAIT_S", "Pace", "Throttle"]

LONGEST_WAIT_S = 60.0
FIRST_WAIT_S = 1.0
"""Where the service does not say how long to wait; doubled each time in a row."""


@dataclass(slots=True)
class Pace:
    """How fast one provider is asked."""

    limit: int
    """Attempts at once."""
    running: int = 0
    not_before: float = 0.0
    """By the clock: nothing begins earlier."""
    refused: int = 0
    """Times in a row."""
    answered: int = 0
    """Attempts that went well since the limit was changed last."""


@dataclass(slots=True)
class Throttle:
    """The paces of a run's providers. For one event loop.

    A refusal halves how many attempts ask a provider at once, and lets none begin for as long as the service says;
    as many good ones as run at once raise it by one again.
    """

    most: int
    """Attempts at once where nobody complains."""
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    _paces: dict[str, Pace] = field(default_factory=dict)
    _asks: dict[str, set[str]] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def pace(self, provider: str) -> Pace:
        """How fast a provider is asked now."""
        return self._paces.setdefault(provider, Pace(limit=self.most))

    async def enter(self, configuration: str) -> list[Pace]:
        """Wait until every provider that a configuration is known to ask may be asked once more."""
        while True:
            paces = [self.pace(provider) for provider in sorted(self._asks.get(configuration, ()))]
            wait_s = max((pace.not_before - self.clock() for pace in paces), default=0.0)
            if wait_s > 0:
                await self.sleep(wait_s)
            elif any(pace.running >= pace.limit for pace in paces):
                self._changed.clear()
                await self._changed.wait()
            else:
                break
        for pace in paces:
            pace.running += 1
        return paces

    def leave(self, paces: Iterable[Pace]) -> None:
        """An attempt has ended."""
        for pace in paces:
            pace.running -= 1
        self._changed.set()

    def met(self, configuration: str, providers: Iterable[str]) -> None:
        """Note which providers a configuration asks."""
        self._asks.setdefault(configuration, set()).update(providers)

    def refused(self, provider: str, wait_s: float | None) -> None:
        """A provider said that it is asked too much, and how long to wait, if it did."""
        pace = self.pace(provider)
        now = self.clock()
        if now >= pace.not_before:  # Of those that were on their way together one is enough.
            pace.limit = max(1, pace.limit // 2)
            pace.refused += 1
        pace.answered = 0
        asked = FIRST_WAIT_S * 2.0 ** min(pace.refused - 1, 6) if wait_s is None else wait_s
        pace.not_before = max(pace.not_before, now + min(max(asked, 0.0), LONGEST_WAIT_S))

    def answered(self, providers: Iterable[str]) -> None:
        """An attempt went through without a complaint."""
        for provider in providers:
            pace = self.pace(provider)
            pace.refused = 0
            if pace.limit >= self.most:
                continue
            pace.answered += 1
            if pace.answered >= pace.limit:
                pace.limit, pace.answered = pace.limit + 1, 0
                self._changed.set()
