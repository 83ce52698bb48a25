"""Several servers that answer for one policy: where one is away, the others answer its share of the requests."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field

from lightning.pytorch.utilities import rank_zero_warn

from fdt.engines.completions import Completion, CompletionRequest, CompletionsClient, ServerUnavailable
from fdt.engines.served import FIRST_WAIT, LONGEST_WAIT
from fdt.engines.vllm.weight_sync import ServerWeightSync


@dataclass
class Member:
    """One server of a pool.

    Args:
        weights: what it holds, and where it is.
    """

    weights: ServerWeightSync
    failures: int = 0
    """Times in a row that it was away."""
    away_until: float = 0.0
    """When it is asked again (time.monotonic)."""
    answers: int = 0
    """Requests that it has answered."""

    @property
    def url(self) -> str:
        """Its address."""
        assert self.weights.server is not None
        return self.weights.server.url

    def note_failure(self, reason: Exception) -> None:
        """It is left alone for a while, twice as long each time."""
        self.failures += 1
        self.away_until = time.monotonic() + min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(self.failures - 1, 16))
        self.weights.held = None
        rank_zero_warn(f"{self.url}: {reason}. The other servers answer for it.")

    def note_success(self, answers: int) -> None:
        """It answers."""
        self.failures = 0
        self.answers += answers


@dataclass
class PoolClient:
    """Shares requests out over the servers of a pool.

    Args:
        members: the pool.
        connect: a client of one server, which then has the weights that are asked for.
        offset: where this rank begins to share out, so that ranks with few requests do not all ask the first one.
    """

    members: Sequence[Member]
    connect: Callable[[Member], CompletionsClient]
    offset: int = 0
    used: set[str] = field(default_factory=set)
    """Addresses that gave any of the answers."""

    def complete(self, requests: Sequence[CompletionRequest]) -> list[Completion]:
        """An answer for each, exactly one; as `CompletionsClient.complete`.

        Raises:
            ServerUnavailable: where none of the servers answers.
        """
        if len(self.members) == 1:
            return self._ask(self.members[0], requests)
        found: dict[int, Completion] = {}
        while len(found) < len(requests):
            missing = [n for n in range(len(requests)) if n not in found]
            members = self._list_healthy()
            shares = [missing[(place - self.offset) % len(members) :: len(members)] for place in range(len(members))]
            asked = [(member, share) for member, share in zip(members, shares, strict=True) if share]
            with ThreadPoolExecutor(len(asked)) as pool:
                futures = [
                    pool.submit(copy_context().run, self._try, member, [requests[n] for n in share])
                    for member, share in asked
                ]
                for (_, share), future in zip(asked, futures, strict=True):
                    found |= zip(share, future.result() or [], strict=False)
        return [found[n] for n in range(len(requests))]

    def _list_healthy(self) -> list[Member]:
        now = time.monotonic()
        healthy = [member for member in self.members if member.away_until <= now]
        if not healthy:
            raise ServerUnavailable("none of the servers answers: " + ", ".join(member.url for member in self.members))
        return healthy

    def _try(self, member: Member, requests: Sequence[CompletionRequest]) -> list[Completion] | None:
        """The answers of one server to its share; None where it is away."""
        try:
            return self._ask(member, requests)
        except ServerUnavailable as away:
            member.note_failure(away)
            return None

    def _ask(self, member: Member, requests: Sequence[CompletionRequest]) -> list[Completion]:
        answers = self.connect(member).complete(requests)
        member.note_success(len(answers))
        self.used.add(member.url)
        return answers
