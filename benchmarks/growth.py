"""How time and memory of a run grow: with rows in the file, answer length, group size, vocabulary and ranks.

Every cell is a run of its own process on a tiny model of random weights, one thread; the exponent is the slope of a
straight line through the logarithms: 0 does not grow, 1 grows in proportion. Prints Markdown.

    python benchmarks/growth.py                               # every axis, up to 100,000 rows
    python benchmarks/growth.py --axes rows --rows 1000 10000 100000 1000000
    python benchmarks/growth.py --axes answer group vocabulary ranks

rows is the first start on a file, again the next one, which finds what the first has stored (docs/design.md).

start: reading, splitting, checking and weighing the file. first: from there to the end of the first optimiser step.
step: the median of the steps after it. All three are CPU time of rank 0, which other work does not stretch.
peak: the process's resident set at its highest, all imports included.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

MEASURES = ("start", "first", "step", "peak")


@dataclass(frozen=True)
class Cell:
    """One run."""

    axis: str
    rows: int = 200
    on_policy: bool = False
    answer: int = 32
    group: int = 4
    vocabulary: int = 4096
    ranks: int = 1
    steps: int = 4

    @property
    def size(self) -> int:
        """Where it lies on its axis."""
        name = {"prompts": "rows", "again": "rows"}.get(self.axis, self.axis)
        return getattr(self, name)


def build_cells(arguments: argparse.Namespace) -> list[Cell]:
    """The runs of every axis that was asked for."""
    base = Cell("", steps=arguments.steps)
    axes: dict[str, Iterable[Cell]] = {
        "rows": (replace(base, axis="rows", rows=n) for n in arguments.rows),
        "again": (replace(base, axis="again", rows=n) for n in arguments.rows),
        "prompts": (replace(base, axis="prompts", rows=n, on_policy=True, answer=4) for n in arguments.rows),
        "answer": (replace(base, axis="answer", answer=n, on_policy=True) for n in arguments.answer),
        "group": (replace(base, axis="group", group=n, on_policy=True) for n in arguments.group),
        "vocabulary": (replace(base, axis="vocabulary", vocabulary=n) for n in arguments.vocabulary),
        "ranks": (replace(base, axis="ranks", ranks=n, answer=128) for n in arguments.ranks),
    }
    return [cell for axis in arguments.axes for cell in axes[axis]]


def write_rows(cell: Cell, path: Path) -> None:
    """A feedback file: prompts all different, an answer, a score and, for every second one, a critique."""
    with path.open("w", encoding="utf-8") as file:
        for n in range(cell.rows):
            row: dict[str, Any] = {"id": f"r{n}", "prompt": f"Tell me about number {n}, please."}
            row |= {"response": f"It is {n}. " + "and so on " * (cell.answer // 8), "score": n % 5 / 4}
            if n % 2:
                row["critique"] = "Say what it is good for."
            file.write(json.dumps(row) + "\n")


def make_files(cell: Cell, folder: Path) -> None:
    """Writes model, rows and held-out rows of a cell, where another rank has not."""
    import torch
    from versus.models import Shape, save_random_model

    torch.manual_seed(0)
    if not (folder / "model").exists():
        save_random_model(folder / "model", Shape(vocabulary=cell.vocabulary))
        write_rows(cell, folder / "rows.jsonl")
        write_rows(replace(cell, rows=4), folder / "heldout.jsonl")
        time.sleep(3)  # what is read of a file is stored only where the file was left alone


def build_data(cell: Cell, folder: Path) -> Any:
    """The data module of a cell."""
    from versus.work import score_text

    from fdt.engines import HuggingFace
    from fdt.experience import Experience
    from fdt.rollout.sources import OnPolicy, Replay
    from feedback.graders import FunctionGrader

    return Experience(
        file=str(folder / "rows.jsonl"),
        heldout=str(folder / "heldout.jsonl"),
        source=OnPolicy(4, cell.group) if cell.on_policy else Replay(rows_per_step=16),
        scale=[0, 1],
        grader=FunctionGrader(lambda episode: score_text(episode.response), name="distinct"),
        engine=HuggingFace(max_new_tokens=cell.answer),
    )


def build_clock() -> Any:
    """A callback that keeps, in `ends`, when training began and when each of its steps ended."""
    from lightning import Callback

    class Clock(Callback):
        def __init__(self) -> None:
            self.ends: list[float] = []

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            self.ends.append(time.process_time())

        def on_train_batch_end(self, *_: Any) -> None:
            self.ends.append(time.process_time())

    return Clock()


def run_cell(cell: Cell, folder: Path) -> dict[str, float]:
    """Makes file and model, and trains some steps in this process."""
    from lightning import Trainer
    from versus.work import STEPS_ALONE, measure_peak

    from fdt.callbacks import Accounting
    from fdt.learner import Learner

    make_files(cell, folder)
    clock = build_clock()
    trainer = Trainer(
        accelerator="cpu",
        devices=cell.ranks,
        strategy="ddp" if cell.ranks > 1 else "auto",
        max_steps=cell.steps,
        **STEPS_ALONE,
        default_root_dir=str(folder),
        callbacks=[clock, Accounting()],
    )
    began = time.process_time()
    trainer.fit(Learner(base=str(folder / "model"), dtype="float32"), datamodule=build_data(cell, folder))
    ended = [b - a for a, b in zip(clock.ends, clock.ends[1:], strict=False)]
    return {
        "start": clock.ends[0] - began,
        "first": ended[0],
        "step": statistics.median(ended[1:] or ended),
        "peak": measure_peak("cpu") / 2**20,
    }


def measure(cell: Cell) -> dict[str, float]:
    """The same in a process of its own, and in one more for each further rank; of a start again, the second."""
    with tempfile.TemporaryDirectory(prefix="growth-") as folder:
        command = [sys.executable, __file__, "--cell", json.dumps(asdict(cell)), folder]
        own = os.environ | {"OMP_NUM_THREADS": "1", "FDT_CACHE": f"{folder}/cache"}
        for _ in range(2 if cell.axis == "again" else 1):
            done = subprocess.run(command, capture_output=True, text=True, check=False, env=own)
            if done.returncode:
                sys.exit(f"{cell}\n{done.stderr[-3000:]}")
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return json.loads(lines[-1])


def fit_exponent(sizes: list[int], values: list[float]) -> float:
    """Slope of the straight line through log size and log value."""
    x = [math.log(size) for size in sizes]
    y = [math.log(max(value, 1e-9)) for value in values]
    mean_x, mean_y = statistics.fmean(x), statistics.fmean(y)
    spread = sum((a - mean_x) ** 2 for a in x)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / spread if spread else math.nan


def print_axis(axis: str, found: dict[int, dict[str, float]]) -> None:
    """One row a size, and the exponents."""
    print(f"\n| {axis} | start, CPU s | first step, CPU s | step, CPU s | peak MiB |\n|--:|--:|--:|--:|--:|")
    for size, values in found.items():
        times = " | ".join(f"{values[name]:.2f}" for name in MEASURES[:3])
        print(f"| {size:,} | {times} | {values['peak']:,.0f} |")
    sizes = list(found)
    exponents = (fit_exponent(sizes, [found[size][name] for size in sizes]) for name in MEASURES)
    print("| exponent | " + " | ".join(f"{value:.2f}" for value in exponents) + " |", flush=True)


def main(argv: list[str] | None = None) -> int:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    axes = ("rows", "again", "prompts", "answer", "group", "vocabulary", "ranks")
    parser.add_argument("--axes", nargs="+", default=axes, choices=axes)
    parser.add_argument("--rows", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--answer", type=int, nargs="+", default=[32, 64, 128, 256])
    parser.add_argument("--group", type=int, nargs="+", default=[2, 4, 8, 16])
    parser.add_argument("--vocabulary", type=int, nargs="+", default=[4096, 16_384, 65_536])
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--cell", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.cell:
        found = run_cell(Cell(**json.loads(arguments.cell[0])), Path(arguments.cell[1]))
        if os.environ.get("LOCAL_RANK", "0") == "0":
            print(json.dumps(found), flush=True)
        return 0
    results: dict[str, dict[int, dict[str, float]]] = {axis: {} for axis in arguments.axes}
    for cell in build_cells(arguments):
        results[cell.axis][cell.size] = measure(cell)
        print(f"# {cell.axis} {cell.size}: {results[cell.axis][cell.size]}", file=sys.stderr, flush=True)
    for axis, cells in results.items():
        print_axis(axis, cells)
    return 0


if __name__ == "__main__":
    sys.exit(main())
