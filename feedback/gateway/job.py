"""One job: many calls in flight, each claimed before it is sent and kept before it counts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from feedback.gateway.breaker import CircuitBreaker
from feedback.gateway.concurrency import ConcurrencyLimit
from feedback.gateway.endpoint import Endpoint
from feedback.gateway.log import CallLog
from feedback.gateway.progress import ProgressBar
from feedback.gateway.types import Failure, GatewayStop, Reply, Request, Usage
from feedback.gateway.wire import ChatClient, FailedAttempt

LOOK_AGAIN = 0.2
"""Seconds between two looks at a call that another process has under way."""
FLUSH = 1.0
"""Seconds between two flushes to the disk: what a power cut can cost."""


class Job:
    """What is in flight for one `Gateway.ask`."""

    def __init__(
        self, endpoint: Endpoint, key: str | None, log: CallLog, breaker: CircuitBreaker, limit: ConcurrencyLimit
    ):
        self.endpoint = endpoint
        self.key = key
        self.log = log
        self.breaker = breaker
        self.limit = limit
        self.found: dict[str, Reply | Failure] = {}
        self.stopping = False
        self.sending: set[asyncio.Task[Any]] = set()

    async def run(self, requests: Mapping[str, Request], num_cached: int) -> dict[str, Reply | Failure]:
        """A reply or a failure for each key; `num_cached` others of the same job were in the cache.

        Raises `GatewayStop` after the calls in flight have ended.
        """
        lanes = min(self.endpoint.concurrency, len(requests))
        self.client = ChatClient(self.endpoint, self.key, lanes)
        self.probing = asyncio.Lock()
        self.room = asyncio.Condition()
        todo = iter(requests.items())
        with ProgressBar(self.endpoint.progress, num_cached, len(requests), self.endpoint.budget) as self.bar:
            flusher = asyncio.create_task(self._flush())
            workers = [asyncio.create_task(self._work(lane, todo)) for lane in range(lanes)]
            try:
                await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
                self.stopping = True
                for task in set(workers) - self.sending:
                    task.cancel()  # waits for its turn or for an outage to end; what is in flight may end
                ends = await asyncio.gather(*workers, return_exceptions=True)
            finally:
                for task in (*workers, flusher):
                    task.cancel()
                await asyncio.gather(*workers, flusher, return_exceptions=True)
                await self.client.close()
        self._raise(ends)
        return self.found

    @staticmethod
    def _raise(ends: list[BaseException | None]) -> None:
        """The reason to stop, if there is one; any other error is a fault of ours and comes first."""
        errors = [end for end in ends if isinstance(end, Exception)]
        errors.sort(key=lambda error: isinstance(error, GatewayStop))
        if errors:
            raise errors[0]

    async def _work(self, lane: int, todo: Iterator[tuple[str, Request]]) -> None:
        for key, request in todo:
            found = await self._answer(lane, key, request)
            if found is None:
                return
            self.found[key] = found
            self.bar.count(found)

    async def _answer(self, lane: int, key: str, request: Request) -> Reply | Failure | None:
        """The reply to one request, or why there is none; None when the job stops first."""
        tries = 0
        began = time.monotonic()
        reserve = Usage(request.most_prompt_tokens, request.sampling.max_tokens)
        while not self.stopping:
            async with self.limit.hold(self.room) as burst, self.breaker.acquire(self.probing):
                claimed = self.log.claim(key, reserve, self.endpoint.budget)
                if isinstance(claimed, Reply):
                    return claimed
                result = await self._send(lane, key, request) if claimed else None
                self._learn_limit(result, burst)
            if isinstance(result, Reply):
                return result
            if result is None:
                await asyncio.sleep(LOOK_AGAIN)
                continue
            tries += result.failure.kind != "rate limit"
            if not result.retryable or self._is_exhausted(tries, began):
                return result.failure
            await asyncio.sleep(self.breaker.compute_backoff(max(tries, 1)))
        return None

    def _learn_limit(self, result: Reply | FailedAttempt | None, burst: int) -> None:
        if isinstance(result, Reply):
            self.limit.record_reply()
        elif result is not None and result.failure.kind == "rate limit":
            self.limit.record_refusal(burst)

    def _is_exhausted(self, tries: int, began: float) -> bool:
        """Whether to give up on a request while the server answers others; an outage is the breaker's to end."""
        if not self.breaker.closed:
            return False
        return tries > self.endpoint.retries or time.monotonic() - began > self.endpoint.outage_timeout

    async def _send(self, lane: int, key: str, request: Request) -> Reply | FailedAttempt:
        """One try, on record before and after; the breaker learns how it went."""
        task = asyncio.current_task()
        assert task is not None
        self.sending.add(task)
        try:
            async with asyncio.timeout(self.endpoint.timeout):
                result = await self.client.send(request, lane)
        except TimeoutError:
            result = self.client.build_timeout()
        except GatewayStop:
            self.log.record_failure(key, "refused", charged=False)
            raise
        finally:
            self.sending.discard(task)
        if isinstance(result, Reply):
            self.log.record_reply(key, result)
            self.breaker.record_success()
            return result
        self.log.record_failure(key, result.failure.kind, result.charged)
        if result.failure.kind != "refused":
            self.breaker.record_failure(key, result.failure.reason, result.certain_outage)
        if result.retry_after is not None:
            self.breaker.pause_for(result.retry_after)
        return result

    async def _flush(self) -> None:
        with suppress(asyncio.CancelledError):
            while True:
                await asyncio.sleep(FLUSH)
                await asyncio.to_thread(self.log.flush)
