"""Trackio: a database on this machine, with a dashboard of its own."""

from __future__ import annotations

from typing import Any

from fdt.loggers.base import COLUMNS, Results, RunLogger


class Trackio(RunLogger):
    """Logs to Trackio, on this machine unless a Space is named; the run's parent folder is the group."""

    package = "trackio"

    def __init__(self, project: str = "fdt", space_id: str | None = None) -> None:
        """
        Args:
            project: the project, shown by ``trackio show --project``.
            space_id: a Hugging Face Space to log to instead; null: this machine.
        """
        super().__init__()
        self.project = project
        self.space_id = space_id

    def start(self, config: dict[str, Any]) -> None:
        import trackio

        self._run = trackio.init(
            project=self.project,
            name=self.name,
            group=self.group,
            space_id=self.space_id,
            config=config,
            resume="allow",  # a run that goes on writes to the same one
            embed=False,  # no dashboard in a notebook's output
        )

    def write(self, metrics: dict[str, float], step: int) -> None:
        self._run.log(metrics, step=step)

    def write_results(self, results: Results) -> None:
        import trackio

        self._run.log({"answers": trackio.Table(columns=list(COLUMNS), data=results.answers)})
        trackio.log_artifact(str(results.report), name=f"report-{self.name}", type="report")

    def finish(self) -> None:
        self._run.finish()
