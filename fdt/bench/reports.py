"""What a finished bench writes and prints: JSON, Markdown, a picture, and tables in the terminal."""

from __future__ import annotations

from pathlib import Path

from fdt.bench import reliability, show
from fdt.bench.base import Bench, Outcome
from fdt.bench.calibrated import answers, differences, drawn, levels
from fdt.bench.compare import Comparison, Result
from fdt.bench.reliability import Calibrations


def report_bench(bench: Bench, outcomes: list[Outcome], folder: Path) -> list[str]:
    """Prints what was found, and writes it to ``NAME.json``, ``NAME.md`` and ``NAME.png`` in a folder.

    Returns:
        Guards that fell: reasons not to believe the tables, one line each.
    """
    if isinstance(bench, Comparison):
        compared = Result(bench, outcomes)
        _write(bench.name, folder, show.as_json(compared), show.as_markdown(compared))
        show.picture(compared, folder / f"{bench.name}.png")
        show.show(compared)
        return compared.deceived
    draws = drawn(outcomes)
    found = Calibrations(outcomes, levels(outcomes, draws), differences(draws), answers(draws))
    _write(bench.name, folder, reliability.as_json(found), reliability.as_markdown(found))
    reliability.picture(found, folder / f"{bench.name}.png")
    reliability.show(found)
    return []


def _write(name: str, folder: Path, as_json: str, as_markdown: str) -> None:
    (folder / f"{name}.json").write_text(as_json, encoding="utf-8")
    (folder / f"{name}.md").write_text(as_markdown, encoding="utf-8")
