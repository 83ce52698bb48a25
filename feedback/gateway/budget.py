"""What a job may cost, what a call costs, and what all calls of this process took."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from feedback.gateway.types import BudgetExceeded, Failure, Reply, Usage


@dataclass(frozen=True)
class Budget:
    """The most that all calls kept in one cache folder may take together, over all runs and ranks that share it.

    It is checked before a call is sent, against what the call can take at most.
    """

    calls: int | None = None
    """Calls that a server may have charged for; those that it refused (429, 500, no connection) do not count. Null is
    no limit."""
    tokens: int | None = None
    """Tokens read and written; null is no limit."""
    cost: float | None = None
    """Cost in the unit of the two prices; null is no limit."""
    prompt_price: float = 0.0
    """Price of a million tokens read."""
    completion_price: float = 0.0
    """Price of a million tokens written."""

    def compute_cost(self, usage: Usage) -> float:
        """Cost of these tokens."""
        return (usage.prompt * self.prompt_price + usage.completion * self.completion_price) / 1e6

    @property
    def has_prices(self) -> bool:
        """Whether prices are known."""
        return bool(self.prompt_price or self.completion_price)

    def check(self, calls: int, usage: Usage, folder: str) -> None:
        """Raises `BudgetExceeded` where this is more than is allowed."""
        for name, most, asked in (
            ("calls", self.calls, calls),
            ("tokens", self.tokens, usage.total),
            ("cost", self.cost, self.compute_cost(usage)),
        ):
            if most is not None and asked > most:
                raise BudgetExceeded(
                    folder,
                    None,
                    f"gateway.budget.{name}",
                    f"up to {asked:g} with the next call",
                    f"at most {most:g}",
                    "What was answered is kept; raise the budget and start again.",
                )


class CallTally:
    """What all gateways of this process did since it was last asked; threads may count at the same time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: defaultdict[str, float] = defaultdict(float)
        self._names: dict[str, None] = {}

    def expect(self, budget: Budget) -> None:
        """A gateway was made: from now on its numbers are told, 0 where it did nothing; cost where it has prices."""
        names = ("replies", "kept", "failed", "prompt_tokens", "completion_tokens", "cost")
        self._names |= dict.fromkeys(names if budget.has_prices else names[:-1])

    def count(self, found: Iterable[Reply | Failure], budget: Budget) -> None:
        """Adds what a job found: replies that were paid for now, those kept from before, and failures."""
        with self._lock:
            for one in found:
                if isinstance(one, Failure):
                    self._found["failed"] += 1
                elif one.cached:
                    self._found["kept"] += 1
                else:
                    self._found["replies"] += 1
                    self._found["prompt_tokens"] += one.usage.prompt
                    self._found["completion_tokens"] += one.usage.completion
                    self._found["cost"] += budget.compute_cost(one.usage)

    def take(self) -> dict[str, float]:
        """The numbers by name, which then count from 0 again; nothing where no gateway was ever made."""
        with self._lock:
            found = {name: self._found[name] for name in self._names}
            self._found.clear()
        return found


TALLY = CallTally()
"""Of this process."""
