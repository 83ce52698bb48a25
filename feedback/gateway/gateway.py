"""`Gateway`: where all model calls go through, and what one job of calls does."""

from __future__ import annotations

import asyncio
import os
import warnings
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, TypeVar
from urllib.parse import urlsplit

from feedback.faults import DataError, format_value
from feedback.gateway.breaker import CircuitBreaker
from feedback.gateway.budget import TALLY, Budget
from feedback.gateway.concurrency import ConcurrencyLimit
from feedback.gateway.endpoint import Endpoint, describe_danger
from feedback.gateway.log import CallLog
from feedback.gateway.types import Failure, Reply, Request, Usage

T = TypeVar("T")
SHOWN_LINES = 5
"""Broken lines of the log that a warning names."""


@dataclass(frozen=True)
class Gateway:
    """A server with the chat-completions protocol, and how it is used.

    What was answered is never asked again, in this run or another; what fails stays a `Failure`. Only what every
    call would meet raises: an outage beyond `outage_timeout`, a refused key, an exhausted budget (`GatewayStop`).
    """

    model: str
    """The model's name on the server."""
    base_url: str = "http://127.0.0.1:8000/v1"
    """The server's address up to and including /v1."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the key; null sends none. The key itself never stands in a config."""
    cache: str = "runs/calls"
    """Folder that keeps all replies, and counts what they took; runs and ranks may share it."""
    budget: Budget = Budget()
    """The most that the calls in `cache` may take."""
    concurrency: int = 64
    """Calls in flight at once, at most: where the server refuses some because they are too many, fewer are sent."""
    timeout: float = 120.0
    """Seconds that one try may take, to the last byte."""
    retries: int = 4
    """Further tries after a failure that may pass: 500, a timeout, a broken connection. Waiting because the server
    asks for it (429) or because it is down does not count."""
    outage_timeout: float = 900.0
    """Seconds without any reply after which an outage ends the job. With several ranks, stay below the time after
    which the ranks give each other up (30 minutes by default)."""
    structured: bool = True
    """Whether to ask for replies that keep to a JSON schema; a server that refuses is asked without."""
    max_tokens_field: str = "max_tokens"
    """The server's name for the longest reply; some reasoning models want max_completion_tokens."""
    extra_body: dict[str, Any] = field(default_factory=dict)
    """Further fields of the request body, such as {chat_template_kwargs: {enable_thinking: false}}."""
    progress: bool = False
    """Whether to draw a bar with calls, tokens and cost."""

    def __post_init__(self) -> None:
        place = urlsplit(self.base_url)
        if place.scheme not in ("http", "https") or not place.hostname or place.username or place.query:
            raise self._build_error(
                "base_url",
                format_value(place._replace(netloc=place.hostname or "").geturl()),
                "http://HOST/v1 or https://HOST/v1 without credentials",
            )
        if danger := describe_danger(place.scheme, place.hostname):
            keyed = " and the key" if self.api_key_env else ""
            warnings.warn(f"gateway.base_url: {self.base_url}: {danger.format(keyed=keyed)}", stacklevel=3)
        for name in ("concurrency", "timeout", "outage_timeout"):
            if not getattr(self, name) > 0:
                raise self._build_error(name, format_value(getattr(self, name)), "more than 0")
        if self.api_key_env is not None and not self.api_key_env.isidentifier():
            # Somebody may have put the key itself here, so it is not repeated.
            raise self._build_error("api_key_env", "something else", "the name of an environment variable")
        TALLY.expect(self.budget)

    def ask(self, requests: Sequence[Request]) -> list[Reply | Failure]:
        """A reply or a failure for each request, in order. Blocks; works within a running event loop too.

        Raises `Outage`, `GatewayRefusal` or `BudgetExceeded` where no further call makes sense (calls in flight have
        ended and are kept), and `DataError` where the cache cannot be used or the key's variable is not set.
        """
        if not requests:
            return []
        log = self._refresh_log()
        keys = [request.compute_key(self.identity) for request in requests]
        found: dict[str, Reply | Failure] = {}
        missing: dict[str, Request] = {}
        for key, request in zip(keys, requests, strict=True):
            if key in found or key in missing:
                continue
            kept = log.get_reply(key)
            if kept is None:
                missing[key] = request
            else:
                found[key] = kept
        TALLY.count(found.values(), self.budget)
        if missing:
            from feedback.gateway.job import Job  # brings openai, which takes a second to import

            job = Job(self._endpoint, self.read_api_key(), log, self._breaker, self._limit)
            try:
                found |= run_blocking(job.run(missing, len(found)))
            finally:
                log.flush()
                TALLY.count(job.found.values(), self.budget)
        return [found[key] for key in keys]

    def estimate_cost(self, requests: Sequence[Request]) -> CostEstimate:
        """What these requests would take, without sending any."""
        log = self._refresh_log()
        new = {request.compute_key(self.identity): request for request in requests}
        new = {key: request for key, request in new.items() if log.get_reply(key) is None}
        prompt = sum(request.likely_prompt_tokens for request in new.values())
        longest = sum(request.sampling.max_tokens for request in new.values())
        most = sum(request.most_prompt_tokens for request in new.values())
        return CostEstimate(
            len(requests),
            len(new),
            Usage(prompt, longest),
            self.budget.compute_cost(Usage(prompt, longest)),
            self.budget.compute_cost(Usage(most, longest)),
        )

    def get_usage(self) -> tuple[int, Usage]:
        """Calls and tokens of all that the cache folder has seen, what is reserved for calls under way included."""
        log = self._refresh_log()
        return log.calls, log.spent

    @property
    def identity(self) -> dict[str, Any]:
        """What of this gateway can change a reply."""
        return {"base_url": self.base_url.rstrip("/"), "model": self.model, "extra": self.extra_body}

    def read_api_key(self) -> str | None:
        """The key, from the environment; raises `DataError` where the variable is not set."""
        if self.api_key_env is None:
            return None
        key = os.environ.get(self.api_key_env, "").strip()
        if not key:
            raise self._build_error(
                "api_key_env",
                f"{self.api_key_env}, which is not set",
                "a variable that holds the key",
                f"export {self.api_key_env}=... in the shell that starts this.",
            )
        return key

    def _build_error(self, name: str, got: str, expected: str, remedy: str = "") -> DataError:
        return DataError("config", None, f"gateway.{name}", got, expected, remedy)

    def _refresh_log(self) -> CallLog:
        """The log with what others have added; lines that cannot be read are told, since paid replies may be lost."""
        self._log.refresh()
        if broken := self._log.take_broken():
            shown = ", ".join(str(number) for number, _ in broken[:SHOWN_LINES])
            more = ", …" if len(broken) > SHOWN_LINES else ""
            warnings.warn(
                f"{self._log.path}: {len(broken)} lines cannot be read (line {shown}{more}: {broken[0][1]}); what they "
                "held is asked and paid for again. One unfinished line is what a kill or a power cut leaves; more mean "
                "that the file was damaged or edited.",
                stacklevel=3,
            )
        return self._log

    @cached_property
    def _log(self) -> CallLog:
        return CallLog(self.cache)

    @cached_property
    def _breaker(self) -> CircuitBreaker:
        return CircuitBreaker(self.base_url, self.outage_timeout)

    @cached_property
    def _limit(self) -> ConcurrencyLimit:
        return ConcurrencyLimit(self.concurrency)

    @property
    def _endpoint(self) -> Endpoint:
        own = {item.name: getattr(self, item.name) for item in fields(Endpoint)}
        return Endpoint(**own)

    @cached_property
    def capabilities(self) -> dict[str, bool]:
        """What this server turned out to be able to do."""
        return {"structured": self.structured}

    def __getstate__(self) -> dict[str, Any]:
        """The settings alone: open files, the breaker and what was learned belong to one process."""
        return {name: value for name, value in self.__dict__.items() if name in self.__dataclass_fields__}


@dataclass(frozen=True)
class CostEstimate:
    """What a job would take."""

    requests: int
    """Replies that are wanted."""
    calls: int
    """Those that are not in the cache."""
    usage: Usage
    """Their tokens: the prompts estimated at four characters a token, the replies at their longest."""
    cost: float
    """What these tokens cost."""
    most: float
    """What they cost if every byte of the prompts were a token."""


def run_blocking(job: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine to its end, in a thread of its own where this one already has an event loop (notebooks)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(job)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, job).result()
