"""What engines behind a server share: which distribution is drawn from, and what happens when the server is away."""

from __future__ import annotations

import os
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from lightning.pytorch.utilities import rank_zero_warn

from fdt.engines.base import Engine, Limit, Sample
from fdt.errors import UserError
from fdt.policy.policy import Policy
from feedback.gateway import Outage

if TYPE_CHECKING:
    from fdt.engines.completions import Completion, CompletionRequest, ServerUnavailable

T = TypeVar("T")
FIRST_WAIT = 0.5
"""Seconds between the first two tries; doubled each time, up to `LONGEST_WAIT`."""
LONGEST_WAIT = 15.0
"""Most seconds between two tries."""


class Client(Protocol):
    """What answers requests: a server, or a pool of them."""

    def complete(self, requests: Sequence[CompletionRequest]) -> list[Completion]:
        """An answer for each; raises `ServerUnavailable` where there is none now."""


@dataclass(frozen=True, kw_only=True)
class ServerEngine(Engine):
    """Token ids go to a server's completions endpoint, ids and log-probs come back."""

    max_new_tokens: int = 64
    """Most tokens of one answer."""
    concurrency: int = 256
    """Requests in flight at once; the server batches them."""
    timeout: float = 600.0
    """Seconds that one request may take."""
    outage_timeout: float = 900.0
    """Seconds after which a server that does not come back ends the run, with a checkpoint."""

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "concurrency", "timeout", "outage_timeout"):
            if not getattr(self, name) > 0:
                raise UserError(name, got=getattr(self, name), expected="more than 0", key="data.engine")

    @property
    def max_answer_tokens(self) -> int:
        return self.max_new_tokens

    @abstractmethod
    def connect(self, policy: Policy) -> Client:
        """The server's model to ask, with the policy's weights where this engine hands them over.

        Raises:
            ServerUnavailable: where the server does not answer.
        """

    def check(self, policy: Policy) -> None:
        """Called after the answers: raises `ServerUnavailable` where they came from other weights than the present."""

    def handle_outage(self, away: ServerUnavailable) -> None:
        """Called when the server did not answer; what is known about it may no longer hold."""

    def generate(
        self,
        policy: Policy,
        prompts: Sequence[Sequence[int]],
        seed: int | None,
        limits: Sequence[Limit] | None = None,
    ) -> list[Sample]:
        """As `Engine.generate`. All prompts are asked again, under the same seeds, where the server went away.

        Raises:
            Outage: where the server stays away for longer than `outage_timeout`.
            UserError: where it refuses what it is asked.
        """
        if not prompts:
            return []
        from fdt.engines.rounds import fill_limits, generate_in_rounds

        limits = fill_limits(limits, len(prompts), self.max_new_tokens)

        def ask() -> list[Sample]:
            complete = self.connect(policy).complete
            found = generate_in_rounds(complete, policy.tokenizer, prompts, seed, limits, policy.stop_ids)
            self.check(policy)
            return found

        return self.repeat(ask)

    def repeat(self, call: Callable[[], T]) -> T:
        """What `call` returns, which is made again where the server went away.

        Raises:
            Outage: where the server stays away for longer than `outage_timeout`.
        """
        from fdt.engines.completions import ServerUnavailable  # brings openai, which takes a second to import

        since: float | None = None
        tries = 0
        while True:
            try:
                return call()
            except ServerUnavailable as away:
                since = time.monotonic() if since is None else since
                tries += 1
                self.handle_outage(away)
                self._wait(away, since, tries)

    def _wait(self, away: ServerUnavailable, since: float, tries: int) -> None:
        lasted = time.monotonic() - since
        wait = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(tries - 1, 16))
        if lasted + wait > self.outage_timeout:
            raise Outage(
                type(self).__name__,
                None,
                "data.engine.init_args.outage_timeout",
                f"no answer for {lasted:.0f} s (last: {away})",
                f"one within {self.outage_timeout:g} s",
                "What was trained is kept; start again with --ckpt_path last.",
            )
        rank_zero_warn(f"{type(self).__name__}: {away}. Trying again.")
        time.sleep(wait)


def read_key(variable: str | None) -> str | None:
    """The key that an environment variable holds.

    Raises:
        UserError: where it is named and not set.
    """
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        # Somebody may have put the key itself here, so it is not repeated.
        raise UserError(
            "the variable that holds the server's key is not set",
            key="data.engine.init_args.key_variable",
            expected="the name of an environment variable that is set",
        )
    return key
