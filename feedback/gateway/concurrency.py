"""How many calls a server takes at once: learned from what it refuses, below what the config allows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

GROWTH = 0.25
"""Calls by which the limit grows in a round of as many replies as it allows: one more in four rounds."""


class ConcurrencyLimit:
    """Shared by all jobs of a gateway, one after the other.

    A refusal (429) lowers the limit to the calls that are still in flight, but in one burst to no less than half: the
    others of the burst were sent before anything was known. Each reply lets it grow again, slowly.
    """

    def __init__(self, most: int):
        self.most = most
        self.limit = float(most)
        self.floor = 1.0
        self.burst = 0
        self.flying = 0

    @asynccontextmanager
    async def hold(self, room: asyncio.Condition) -> AsyncIterator[int]:
        """Waits until one more call may be in flight; gives the burst that it belongs to, for `record_refusal`.

        `room` is one condition for all calls of a job, of the event loop that it runs in.
        """
        async with room:
            await room.wait_for(lambda: self.flying < int(self.limit))
            self.flying += 1
        try:
            yield self.burst
        finally:
            self.flying -= 1
            async with room:
                room.notify_all()

    def record_refusal(self, burst: int) -> None:
        """The server refused a call of this burst because there were too many; the call is still counted as flying."""
        if burst == self.burst:
            self.burst += 1
            self.floor = max(1.0, self.limit / 2)
        self.limit = min(self.limit, max(self.floor, self.flying - 1.0))

    def record_reply(self) -> None:
        """The server answered."""
        self.limit = min(float(self.most), self.limit + GROWTH / self.limit)
