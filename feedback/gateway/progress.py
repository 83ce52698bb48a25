"""The bar of a job: how many, what failed, what it takes."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from feedback.gateway.budget import Budget
from feedback.gateway.types import Failure, Reply, Usage


class ProgressBar:
    """Counts replies, failures, tokens and cost; draws them where `shown`. A context manager."""

    def __init__(self, shown: bool, kept: int, wanted: int, budget: Budget):
        self.budget, self.kept, self.failed, self.usage = budget, kept, 0, Usage()
        self.progress = Progress(
            TextColumn("calls"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(),
            disable=not shown,
            console=Console(stderr=True),
        )
        self.task = self.progress.add_task("calls", total=kept + wanted, completed=kept, numbers=self.numbers)

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
            self.failed += 1
        elif found.cached:
            self.kept += 1
        else:
            self.usage += found.usage
        self.progress.update(self.task, advance=1, numbers=self.numbers)

    @property
    def numbers(self) -> str:
        """What stands behind the bar."""
        cost = f" · cost {self.budget.compute_cost(self.usage):.4f}" if self.budget.has_prices else ""
        return f"{self.kept} kept · {self.failed} failed · {self.usage.total} tokens{cost}"
