"""What a finished bench writes and prints: JSON, Markdown, a picture, and tables in the terminal."""

from __future__ import annotations

from pathlib import Path

from fdt.bench import reliability, show
from fdt.bench.base import Bench, Outcome
from fdt.bench.calibration_results import answer_questions, compute_differences, compute_levels, resample_runs
from fdt.bench.compare import Comparison, Result
from fdt.bench.reliability import CalibrationResult


def report_bench(bench: Bench, outcomes: list[Outcome], folder: Path) -> list[str]:
    """Prints what was found, and writes it to ``NAME.json``, ``NAME.md`` and ``NAME.png`` in a folder.

    Returns:
        Guards that fell: reasons not to believe the tables, one line each.
    """
    if isinstance(bench, Comparison):
        compared = Result(bench, outcomes)
        _write(bench.name, folder, show.as_json(compared), show.as_markdown(compared))
        show.draw_picture(compared, folder / f"{bench.name}.png")
        show.print_results(compared)
        return compared.failures
    draws = resample_runs(outcomes)
    found = CalibrationResult(
        outcomes, compute_levels(outcomes, draws), compute_differences(draws), answer_questions(draws)
    )
    _write(bench.name, folder, reliability.as_json(found), reliability.as_markdown(found))
    reliability.draw_picture(found, folder / f"{bench.name}.png")
    reliability.print_results(found)
    return []


def _write(name: str, folder: Path, as_json: str, as_markdown: str) -> None:
    (folder / f"{name}.json").write_text(as_json, encoding="utf-8")
    (folder / f"{name}.md").write_text(as_markdown, encoding="utf-8")
