"""What a job may cost, and what a call costs."""

from __future__ import annotations

from dataclasses import dataclass

from feedback.gateway.types import BudgetExceeded, Usage


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
