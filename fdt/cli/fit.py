"""``fdt fit | validate | test | predict``: Lightning's CLI with fdt's defaults, refusals and arms."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from fdt.callbacks import Accounting, Checkpoint, Evaluate, PlanningMetrics, SilentTerms, Transcripts, WritePredictions
from fdt.callbacks.checkpoint import AtomicCheckpointIO
from fdt.cli.arms import list_config_files, read_arms, run_arms
from fdt.cli.checks import check_checkpoint, check_configs, check_trainer, find_root_cause
from fdt.cli.plugs import configure_parsers
from fdt.cli.reading import replace_map
from fdt.cli.warnings import filter_warnings
from fdt.errors import UserError
from fdt.experience import Experience
from fdt.learner import Learner
from fdt.resources import resolve_arguments

DEFAULTS = {
    # Every validation before the first step measures the base; inference_mode would break FSDP2's gathers.
    "num_sanity_val_steps": -1,
    "inference_mode": False,
    "log_every_n_steps": 1,
    "use_distributed_sampler": False,
    "default_root_dir": "runs/fdt",
    "max_epochs": 1,
}


class SaveConfig(SaveConfigCallback):
    """Writes the resolved config into the run folder."""

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if stage == "fit" and trainer.is_global_zero:
            folder = Path(trainer.default_root_dir)
            folder.mkdir(parents=True, exist_ok=True)
            text = self.parser.dump(self.config, skip_none=False)
            (folder / "config.yaml").write_text(text, encoding="utf-8")


class CLI(LightningCLI):
    """Adds the run folder's loggers and callbacks to whatever the config names."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--arms",
            type=dict[str, Any] | None,
            default=None,
            help="Runs of one config side by side: name -> overrides. `fdt fit` runs each and prints one table.",
        )

        parser.add_argument(
            "--base_from",
            type=str | None,
            default=None,
            help="Held-out records of the base that another arm has measured; copied instead of measured again.",
        )

    def instantiate_classes(self) -> None:
        check_checkpoint(self._get(self.config, "ckpt_path"))
        try:
            super().instantiate_classes()
        except ValueError as fault:  # a part that refuses its settings
            raise UserError(find_root_cause(fault)) from fault

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        given = self._get(self.config_init, "trainer", default={})
        check_trainer(given, self._get(self.config_init, "model"))
        root = Path(given.get("default_root_dir"))
        own = [Evaluate(), SilentTerms(), PlanningMetrics(), Transcripts(), Accounting(), WritePredictions()]
        if given.get("enable_checkpointing") is not False:
            own.append(Checkpoint())
        theirs = _to_list(given.get("callbacks"))
        own = [callback for callback in own if not any(isinstance(other, type(callback)) for other in theirs)]
        loggers = _to_list(given.get("logger"))
        if self.subcommand == "fit" and given.get("logger") is not False:
            loggers = [CSVLogger(root, name="metrics"), *[x for x in loggers if not isinstance(x, bool)]]
        elif self.subcommand != "fit":
            loggers = []
        plugins = [AtomicCheckpointIO(), *_to_list(given.get("plugins"))]
        return super().instantiate_trainer(callbacks=own + theirs, logger=loggers, plugins=plugins, **kwargs)

    def before_fit(self) -> None:
        root = Path(self.trainer.default_root_dir)
        keep_old(root, self._get(self.config_init, "ckpt_path"))
        measured = self._get(self.config_init, "base_from")
        if measured and self.trainer.is_global_zero:
            (root / "eval").mkdir(parents=True, exist_ok=True)
            shutil.copyfile(measured, root / "eval" / "base.jsonl")

    def after_fit(self) -> None:
        if self.trainer.is_global_zero and not self.trainer.interrupted:
            report_results(Path(self.trainer.default_root_dir))


def _to_list(value: Any) -> list[Any]:
    if value is None or isinstance(value, bool):
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def keep_old(root: Path, ckpt_path: str | None) -> None:
    """A fresh run into a used folder moves the old run aside; nothing is overwritten."""
    if ckpt_path or os.environ.get("LOCAL_RANK") is not None or not (root / "config.yaml").exists():
        return
    number = next(n for n in range(1, 10_000) if not root.with_name(f"{root.name}.old{n}").exists())
    aside = root.with_name(f"{root.name}.old{number}")
    root.rename(aside)
    print(f"fdt: kept the former run as {aside}")


def report_results(root: Path) -> None:
    """The table in the terminal, and the report beside the runs."""
    from fdt.report import print_table, write_report

    print_table(root)
    print(f"report: {write_report(root)}")


class NoReportCLI(CLI):
    """Leaves the run folder as it is: for runs that are one of many, with one report for all."""

    def after_fit(self) -> None:
        return None


def launch(argv: list[str], kind: type[CLI] = CLI) -> None:
    """One run in this process.

    Raises:
        UserError: for what a user can correct.
    """
    configure_parsers()
    filter_warnings()
    try:
        kind(
            Learner,
            Experience,
            args=argv,
            save_config_callback=SaveConfig,
            save_config_kwargs={"overwrite": True},
            seed_everything_default=0,
            trainer_defaults=DEFAULTS,
            auto_configure_optimizers=False,
            parser_kwargs={"prog": "fdt"},
        )
    except MisconfigurationException as fault:
        raise UserError(str(fault)) from fault


def main(argv: list[str]) -> int:
    """Runs one of Lightning's verbs; returns the exit code.

    Raises:
        UserError: for what a user can correct.
    """
    argv = resolve_arguments(replace_map(argv))
    check_configs(list_config_files(argv))
    arms = read_arms(argv)
    if arms is not None:
        status = run_arms(argv, arms)
        if status == 0:
            report_results(arms.root)
        return status
    launch(argv)
    return 0
