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
FIRST_WAIT = 0.5
"""Seconds before the second try; each further wait is twice as long."""
LONGEST_WAIT = 30.0
"""Seconds that no wait exceeds."""


class CircuitBreaker:
    """Shared by all calls of a gateway, over all its jobs. Times are seconds of the monotonic clock."""

    def __init__(self, server: str, outage_timeout: float):
        self.server = server
        self.outage_timeout = outage_timeout
        self.random = random.Random()  # of its own: the global generator belongs to training
        self.failing: set[str] = set()
        self.failing_since: float | None = None  # first failure after the last success
        self.closed = True
        self.probes = 0
        self.resume_at = 0.0  # not before this time, as the server asked
        self.last = ""

    def record_success(self) -> None:
        """A reply came: whatever there was is over."""
        self.failing.clear()
        self.failing_since = None
        self.closed = True
        self.probes = 0

    def record_failure(self, key: str, reason: str, certain_outage: bool) -> None:
        """A try failed; `certain_outage` when no request could have succeeded (no connection, 502, 503, 529)."""
        self.failing_since = time.monotonic() if self.failing_since is None else self.failing_since
        self.failing.add(key)
        self.last = reason
        self.closed = self.closed and not certain_outage and len(self.failing) < DISTINCT

    def pause_for(self, seconds: float) -> None:
        """The server named the time after which to come back: nothing is sent before."""
        self.resume_at = max(self.resume_at, time.monotonic() + seconds)

    def compute_backoff(self, tries: int) -> float:
        """Seconds to wait after so many failed tries, with jitter so that waiting calls spread."""
        return min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(tries - 1, 16)) * self.random.uniform(0.5, 1.0)

    @asynccontextmanager
    async def acquire(self, probing: asyncio.Lock) -> AsyncIterator[None]:
        """Waits until a call may be sent. While there is an outage, one call at a time tries whether it is over.

        Raises `Outage` when it has lasted longer than `outage_timeout`, or will have.
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
        while (rest := self.resume_at - time.monotonic()) > 0:
            await self._wait(rest)

    async def _wait(self, seconds: float) -> None:
        now = time.monotonic()
        end = (now if self.failing_since is None else self.failing_since) + self.outage_timeout
        if now + seconds > end:
            # The last try belongs to the end of the time, unless the server has announced that it would be in vain.
            if self.resume_at > end or now >= end:
                raise self.build_outage(now)
            seconds = end - now
        await asyncio.sleep(seconds)

    def build_outage(self, now: float) -> Outage:
        """The error that ends the job."""
        lasted = 0.0 if self.failing_since is None else now - self.failing_since
        asked = f", and it asks to come back in {self.resume_at - now:.0f} s" if self.resume_at > now else ""
        return Outage(
            self.server,
            None,
            "gateway.outage_timeout",
            f"no reply for {lasted:.0f} s{asked} (last: {self.last})",
            f"one within {self.outage_timeout:g} s",
            "What was answered is kept; start again when it is back.",
        )
