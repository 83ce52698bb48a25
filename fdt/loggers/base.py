"""What the loggers share: grouped names, the run's config, and at the end the answers and the report."""

from __future__ import annotations

import importlib
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from fdt.errors import UserError
from fdt.report.panels.samples import select_samples
from fdt.report.panels.settings import hide_secrets
from fdt.report.runs import Run, find_runs
from fdt.report.sanitize import make_legible

PREFIX = "train/"
COLUMNS = ("prompt", "reference", "model", "answer", "score", "outcome")
"""Columns of the table of held-out answers."""
LONGEST = 2000
"""Characters of a cell."""


@dataclass(frozen=True)
class Results:
    """What a finished run hands to its loggers."""

    answers: list[list[Any]]
    """Held-out answers before and after, one a row, in `COLUMNS`."""
    report: Path
    """The page."""


class RunLogger(Logger):
    """A logger that is started with the run's folder, and told of the answers and the report when the run is done."""

    package: str
    """The package that it needs."""

    def __init__(self) -> None:
        super().__init__()
        self.root: Path | None = None
        self._started = False

    def attach(self, root: Path) -> None:
        """Tells the logger whose folder it writes about.

        Raises:
            UserError: the package is not installed.
        """
        try:
            importlib.import_module(self.package)
        except ImportError as error:
            raise UserError(
                f"the logger needs the package {self.package}",
                key="trainer.logger",
                remedy="Install it: pip install 'feedback-distillation-trainer[loggers]'.",
            ) from error
        self.root = root

    @property
    def name(self) -> str:
        """The run's name: its folder's."""
        return self._get_root().resolve().name

    @property
    def version(self) -> str:
        """One a folder: a run that goes on writes to the same."""
        return "0"

    @property
    def group(self) -> str:
        """What the runs beside it are shown under: the name of the folder that holds them."""
        return self._get_root().resolve().parent.name

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Writes the numbers of a step under their grouped names."""
        self._start_once()
        self.write(group_names(metrics), step or 0)

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The whole config is written at the start instead."""

    @rank_zero_only
    def publish(self, results: Results) -> None:
        """Writes the answers and the report, and ends the logging."""
        self._start_once()
        self.write_results(results)
        self.finish()

    @abstractmethod
    def start(self, config: dict[str, Any]) -> None:
        """Begins a run with its config."""

    @abstractmethod
    def write(self, metrics: dict[str, float], step: int) -> None:
        """Writes the numbers of a step."""

    @abstractmethod
    def write_results(self, results: Results) -> None:
        """Writes the table of answers and the report."""

    @abstractmethod
    def finish(self) -> None:
        """Sends or writes what is left."""

    def _start_once(self) -> None:
        if not self._started:
            self._started = True
            self.start(read_config(self._get_root()))

    def _get_root(self) -> Path:
        assert self.root is not None  # told before training
        return self.root


def group_names(metrics: Mapping[str, float]) -> dict[str, float]:
    """Names whose first part is their group, as the viewers show them: ``train/reward/mean`` is ``reward/mean``, and
    what has no group of its own stays under ``train``."""
    return {_group_name(name): value for name, value in metrics.items()}


def _group_name(name: str) -> str:
    rest = name.removeprefix(PREFIX)
    return rest if "/" in rest else name


def read_config(root: Path) -> dict[str, Any]:
    """The run's config without its secrets; empty where none is written yet."""
    path = root / "config.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None
    return hide_secrets(content) if isinstance(content, dict) else {}


def publish_results(loggers: Iterable[Any], root: Path, report: Path) -> None:
    """Hands a finished run's answers and report to those of its loggers that take them."""
    own = [logger for logger in loggers if isinstance(logger, RunLogger)]
    if own:
        results = Results(list_answers(find_runs(root)), report)
        for logger in own:
            logger.publish(results)


def list_answers(runs: list[Run]) -> list[list[Any]]:
    """Some held-out prompts of each outcome with every model's answer, in `COLUMNS`; a score that is absent is None."""
    samples, _ = select_samples(runs)
    return [
        [
            _shorten(sample.prompt),
            _shorten(sample.reference or ""),
            answer.label,
            _shorten(answer.text),
            answer.score if answer.score == answer.score else None,
            answer.outcome,
        ]
        for sample in samples
        for answer in sample.answers
    ]


def _shorten(text: str) -> str:
    return make_legible(text[:LONGEST])
