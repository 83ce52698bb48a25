"""The circuit breaker: tells an outage from a bad request, pauses for the one, and gives up after a stated time."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from feedback.gateway.types import Outage

DISTINCT = 5
"""So many different requests failing in a row, without one success, are the server's fault."""
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0
"""Seconds between two tries: doubling from the first to the longest."""


class CircuitBreaker:
    """Shared by all calls of a gateway, over all its jobs. Times are seconds of the monotonic clock."""

    def __init__(self, server: str, patience: float):
        self.server, self.patience = server, patience
        self.random = random.Random()  # of its own: the global generator belongs to training
        self.failing: set[str] = set()
        self.since: float | None = None  # first failure after the last success
        self.closed = True
        self.probes = 0
        self.resume = 0.0  # not before this time, as the server asked
        self.last = ""

    def record_success(self) -> None:
        """A reply came: whatever there was is over."""
        self.failing.clear()
        self.since, self.closed, self.probes = None, True, 0

    def record_failure(self, key: str, reason: str, surely: bool) -> None:
        """A try failed; `surely` when no request could have succeeded (nothing listens, 502, 503, 529)."""
        self.since = time.monotonic() if self.since is None else self.since
        self.failing.add(key)
        self.last = reason
        self.closed = self.closed and not surely and len(self.failing) < DISTINCT

    def pause_for(self, seconds: float) -> None:
        """The server named the time after which to come back: nothing is sent before."""
        self.resume = max(self.resume, time.monotonic() + seconds)

    def compute_backoff(self, tries: int) -> float:
        """Seconds to wait after so many failed tries, with jitter so that waiting calls spread."""
        return min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(tries - 1, 16)) * self.random.uniform(0.5, 1.0)

    @asynccontextmanager
    async def acquire(self, probing: asyncio.Lock) -> AsyncIterator[None]:
        """Waits until a call may be sent. While there is an outage, one call at a time tries whether it is over.

        Raises `Outage` when it has lasted longer than the patience, or will have.
        """
        while True:
            await self._wait_for_resume()
            if self.closed:
                yield
                return
            async with probing:
                if self.closed:  # whoever probed before got through
                    continue
                self.probes += 1
                await self._wait(self.compute_backoff(self.probes))
                await self._wait_for_resume()
                yield
                return

    async def _wait_for_resume(self) -> None:
        while (rest := self.resume - time.monotonic()) > 0:
            await self._wait(rest)

    async def _wait(self, seconds: float) -> None:
        now = time.monotonic()
        end = (now if self.since is None else self.since) + self.patience
        if now + seconds > end:
            # The last try belongs to the end of the time, unless the server has said that it would be in vain.
            if self.resume > end or now >= end:
                raise self.build_outage(now)
            seconds = end - now
        await asyncio.sleep(seconds)

    def build_outage(self, now: float) -> Outage:
        """The error that ends the job."""
        lasted = 0.0 if self.since is None else now - self.since
        asked = f", and it asks to come back in {self.resume - now:.0f} s" if self.resume > now else ""
        return Outage(
            self.server,
            None,
            "gateway.patience",
            f"no reply for {lasted:.0f} s{asked} (last: {self.last})",
            f"one within {self.patience:g} s",
            "What was answered is kept; start again when it is back.",
        )
