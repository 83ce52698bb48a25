"""TensorBoard: event files in the run's folder."""

from __future__ import annotations

import shutil
from typing import Any

import yaml

from fdt.loggers.base import COLUMNS, Results, RunLogger
from fdt.report.sanitize import make_legible

FOLDER = "tensorboard"


class TensorBoard(RunLogger):
    """Writes ``tensorboard/`` in the run folder; ``tensorboard --logdir runs`` shows all runs below."""

    package = "tensorboard"

    def start(self, config: dict[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(self._get_root() / FOLDER))
        text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
        self._writer.add_text("config", "".join(f"    {line}\n" for line in text.splitlines()))

    def write(self, metrics: dict[str, float], step: int) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def write_results(self, results: Results) -> None:
        """The answers as a table of text, and the page beside the event files, since TensorBoard keeps no files."""
        lines = [COLUMNS, ["---"] * len(COLUMNS), *results.answers]
        table = "\n".join(f"| {' | '.join(_format_cell(cell) for cell in line)} |" for line in lines)
        self._writer.add_text("answers", table)
        kept = self._get_root() / FOLDER / results.report.name
        shutil.copyfile(results.report, kept)
        self._writer.add_text("report", f"`{kept}`")

    def finish(self) -> None:
        self._writer.close()


def _format_cell(cell: Any) -> str:
    text = "" if cell is None else f"{cell:g}" if isinstance(cell, float) else make_legible(str(cell))
    return text.replace("\n", " ").replace("|", r"\|").replace("<", "&lt;")
