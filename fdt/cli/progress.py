"""A progress bar for long files, on a terminal alone."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

Item = TypeVar("Item")
LONG = 16 << 20  # bytes: below this a file is read before a bar could be looked at
HEAD = 1 << 20  # bytes from which the number of records is estimated
EVERY = 2000  # records between two looks at the bar


def track_progress(items: Iterator[Item], path: str | Path) -> Iterator[Item]:
    """The same items; on stderr a bar tells how many came, where stderr is a terminal and the file is long."""
    if not sys.stderr.isatty() or not os.path.isfile(path) or os.path.getsize(path) < LONG:
        return items
    return _iterate_with_bar(items, path)


def estimate_records(path: str | Path) -> int:
    """Records of a file: rows of a Parquet file, else its size over the mean line of its first megabyte."""
    with open(path, "rb") as file:
        head = file.read(HEAD)
    if head.startswith(b"PAR1"):
        import pyarrow.parquet  # heavy, and only this format needs it

        return pyarrow.parquet.read_metadata(path).num_rows
    return round(os.path.getsize(path) * head.count(b"\n") / len(head)) if head else 0


def _iterate_with_bar(items: Iterator[Item], path: str | Path) -> Iterator[Item]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.completed:,.0f} of about {task.total:,.0f} records"),
        BarColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    # Faults printed meanwhile go above the bar, but only where they go to the same terminal.
    console = Console(stderr=True)
    here = sys.stdout.isatty()
    with Progress(*columns, console=console, redirect_stdout=here, redirect_stderr=here, transient=True) as bar:
        task = bar.add_task("", total=max(estimate_records(path), 1), rate="")
        for number, item in enumerate(items, 1):
            yield item
            if number % EVERY == 0:
                speed = bar.tasks[0].finished_speed or bar.tasks[0].speed
                bar.update(
                    task,
                    completed=number,
                    total=max(number, bar.tasks[0].total or 0),
                    rate=f"{speed:,.0f}/s" if speed else "",
                )
