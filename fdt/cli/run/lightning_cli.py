"""Lightning's CLI with fdt's defaults, refusals, callbacks and run folder; importing it imports torch."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from fdt.callbacks import (
    Accounting,
    Checkpoint,
    Evaluate,
    Interruption,
    PlanningMetrics,
    SavingInterruption,
    SilentTerms,
    StepLog,
    Transcripts,
    WritePredictions,
)
from fdt.callbacks.checkpoint import AtomicCheckpointIO
from fdt.callbacks.reliability import RunState, Watchdog
from fdt.cli.plugs import configure_parsers
from fdt.cli.run.arguments import TRAINER_DEFAULTS
from fdt.cli.run.checks import check_trainer, find_root_cause
from fdt.cli.run.lock import lock_folder, release_folders
from fdt.cli.run.provenance import write_provenance
from fdt.cli.run.runs import check_checkpoint
from fdt.cli.run.warnings import filter_warnings
from fdt.errors import UserError
from fdt.experience import Experience
from fdt.learner import Learner
from fdt.loggers.base import RunLogger, publish_results
from fdt.report import report_results

USAGE = "fdt {verb} [-c CONFIG]... [--BLOCK.SETTING VALUE]..."
"""Above an error; the whole list of options takes ninety lines, and `--help` explains them."""


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

    def __init__(self, model: type, data: type, args: list[str], **settings: Any) -> None:
        self._verbs = args[:1]
        super().__init__(model, data, args=args, **settings)

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]  # a static method there
        """The verb that was asked for alone: a parser for each of the others would be built and not used."""
        return {verb: LightningCLI.subcommands()[verb] for verb in self._verbs}

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

    def _parse_ckpt_path(self) -> None:
        """Lightning lets the hyper-parameters of a checkpoint change the config and import what they name. A checkpoint
        is data here: what a run is made of stands in its config."""

    def instantiate_classes(self) -> None:
        check_checkpoint(self._get(self.config, "ckpt_path"))  # where a file names it, not the command line
        try:
            super().instantiate_classes()
        except ValueError as fault:  # a part that refuses its settings
            raise UserError(find_root_cause(fault)) from fault

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        given = self._get(self.config_init, "trainer", default={})
        check_trainer(given, self._get(self.config_init, "model"))
        root = Path(given.get("default_root_dir"))
        own = [
            Evaluate(),
            SilentTerms(),
            PlanningMetrics(),
            Transcripts(),
            Accounting(),
            WritePredictions(),
            StepLog(),
            RunState(self._read_settings()),
            Watchdog(),
        ]
        saves = given.get("enable_checkpointing") is not False
        own += [Checkpoint(), SavingInterruption()] if saves else [Interruption()]
        theirs = _to_list(given.get("callbacks"))
        own = [callback for callback in own if not any(isinstance(other, type(callback)) for other in theirs)]
        loggers = _to_list(given.get("logger"))
        if self.subcommand == "fit" and given.get("logger") is not False:
            loggers = [CSVLogger(root, name="metrics"), *[x for x in loggers if not isinstance(x, bool)]]
        elif self.subcommand != "fit":
            loggers = []
        for logger in loggers:
            if isinstance(logger, RunLogger):
                logger.attach(root)
        plugins = [AtomicCheckpointIO(), *_to_list(given.get("plugins"))]
        return super().instantiate_trainer(callbacks=own + theirs, logger=loggers, plugins=plugins, **kwargs)

    def _read_settings(self) -> dict[str, Any]:
        """The resolved config, as plain values."""
        parser = self._parser(self.subcommand)
        config = self.config.get(str(self.subcommand), self.config)
        return yaml.safe_load(parser.dump(config, skip_none=False)) or {}

    def before_fit(self) -> None:
        root = Path(self.trainer.default_root_dir)
        given = self._get(self.config_init, "ckpt_path")
        if self.trainer.is_global_zero and os.environ.get("LOCAL_RANK") is None:
            lock_folder(root)
            if not given and (root / "config.yaml").exists():
                keep_old(root)
                lock_folder(root)
            data = self._get(self.config_init, "data")
            heldout = data.heldout if isinstance(data.heldout, str) else None
            write_provenance(root, [data.file, heldout, data.test_file], resumed=bool(given))
        measured = self._get(self.config_init, "base_from")
        if measured and self.trainer.is_global_zero:
            (root / "eval").mkdir(parents=True, exist_ok=True)
            shutil.copyfile(measured, root / "eval" / "base.jsonl")

    def before_validate(self) -> None:
        self._name_weights()

    def before_test(self) -> None:
        self._name_weights()

    def before_predict(self) -> None:
        self._name_weights()

    def _name_weights(self) -> None:
        """Says whose weights answer, as a run's config and its checkpoint are two things."""
        given = self._get(self.config_init, "ckpt_path")
        base = self._get(self.config_init, "model").base
        weights = f"{given} (trained from {base})" if given else f"{base} as it is; --ckpt_path names a trained one"
        rank_zero_info(f"fdt {self.subcommand}: weights of {weights}")

    def after_fit(self) -> None:
        if self.trainer.is_global_zero and not self.trainer.interrupted:
            root = Path(self.trainer.default_root_dir)
            publish_results(self.trainer.loggers, root, report_results(root))


def _to_list(value: Any) -> list[Any]:
    if value is None or isinstance(value, bool):
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def keep_old(root: Path) -> None:
    """A fresh run into a used folder moves the old run aside; nothing is overwritten."""
    number = next(n for n in range(1, 10_000) if not root.with_name(f"{root.name}.old{n}").exists())
    aside = root.with_name(f"{root.name}.old{number}")
    root.rename(aside)
    print(f"fdt: kept the former run as {aside}")


class NoReportCLI(CLI):
    """Leaves the run folder as it is: for runs that are one of many, with one report for all."""

    def after_fit(self) -> None:
        return None


def launch(argv: list[str], kind: type[CLI] = CLI) -> None:
    """One run in this process.

    Raises:
        UserError: for what a user can correct.
    """
    configure_parsers(explains=any(argument.split("=")[0].endswith(".help") for argument in argv))
    filter_warnings()
    try:
        kind(
            Learner,
            Experience,
            args=argv,
            save_config_callback=SaveConfig,
            save_config_kwargs={"overwrite": True},
            seed_everything_default=0,
            trainer_defaults=TRAINER_DEFAULTS,
            auto_configure_optimizers=False,
            parser_kwargs={"prog": "fdt", argv[0]: {"usage": USAGE.format(verb=argv[0])}},
        )
    except MisconfigurationException as fault:
        raise UserError(str(fault)) from fault
    finally:
        release_folders()
