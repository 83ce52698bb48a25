"""The bar of a job: how many, what failed, what it takes."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from feedback.gateway.budget import Budget
from feedback.gateway.types import Failure, Reply, Usage


class ProgressBar:
    """Counts replies, failures, tokens and cost; draws them where `shown`. A context manager."""

    def __init__(self, shown: bool, num_cached: int, num_requests: int, budget: Budget):
        self.budget = budget
        self.num_cached = num_cached
        self.num_failed = 0
        self.usage = Usage()
        self.progress = Progress(
            TextColumn("calls"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(),
            disable=not shown,
            console=Console(stderr=True),
        )
        total = num_cached + num_requests
        self.task = self.progress.add_task("calls", total=total, completed=num_cached, numbers=self.numbers)

    def __enter__(self) -> ProgressBar:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def count(self, found: Reply | Failure) -> None:
        """One more is done."""
        if isinstance(found, Failure):
            self.num_failed += 1
        elif found.cached:
            self.num_cached += 1
        else:
            self.usage += found.usage
        self.progress.update(self.task, advance=1, numbers=self.numbers)

    @property
    def numbers(self) -> str:
        """The counts behind the bar."""
        cost = f" · cost {self.budget.compute_cost(self.usage):.4f}" if self.budget.has_prices else ""
        return f"{self.num_cached} kept · {self.num_failed} failed · {self.usage.total} tokens{cost}"
