"""Weights & Biases: to its server, or with ``offline`` into the run's folder."""

from __future__ import annotations

from typing import Any

from fdt.loggers.base import COLUMNS, Results, RunLogger

STEP = "step"


class WandB(RunLogger):
    """Logs to Weights & Biases; the run's parent folder is the group, so that arms and seeds stand together."""

    package = "wandb"

    def __init__(self, project: str = "fdt", entity: str | None = None, offline: bool = False) -> None:
        """
        Args:
            project: the project there.
            entity: the user or team; null: the default of the account.
            offline: write to ``wandb/`` in the run folder, for ``wandb sync`` later.
        """
        super().__init__()
        self.project = project
        self.entity = entity
        self.offline = offline

    def start(self, config: dict[str, Any]) -> None:
        import wandb

        self._run = wandb.init(
            project=self.project,
            entity=self.entity,
            name=self.name,
            group=self.group,
            dir=str(self._get_root()),
            config=config,
            mode="offline" if self.offline else None,
        )
        # A resumed run takes some steps again, which the server's own step would refuse.
        self._run.define_metric("*", step_metric=STEP)

    def write(self, metrics: dict[str, float], step: int) -> None:
        self._run.log({**metrics, STEP: step})

    def write_results(self, results: Results) -> None:
        import wandb

        self._run.log({"answers": wandb.Table(columns=list(COLUMNS), data=results.answers)})
        artifact = wandb.Artifact(f"report-{self._run.id}", type="report")
        artifact.add_file(str(results.report))
        self._run.log_artifact(artifact)

    def finish(self) -> None:
        self._run.finish()
