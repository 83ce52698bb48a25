"""A checkpoint leads to its run: the config that made it, and the file that is meant where a folder is named."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fdt.checkpoint_files import check_whole, find_newest
from fdt.cli.run.arguments import drop_flags, list_config_files, list_flags
from fdt.errors import UserError

BY_NAME = ("", "last", "best", "hpc", "null")
CONFIG = "config.yaml"
LAST = Path("checkpoints", "last.ckpt")
FLAG = "--ckpt_path"


def add_run_config(argv: list[str]) -> list[str]:
    """The command with the config of the run that its checkpoint is of, before the config files that it names.

    A run's folder stands for its last checkpoint. ``fit`` goes on from a checkpoint with the config that it is given,
    and with its run's where it is given none.

    Args:
        argv: the verb and its arguments, config files as paths.

    Raises:
        UserError: where there is no such checkpoint, or a folder holds several runs.
    """
    given = dict(list_flags(argv)).get(FLAG, "")
    if given in BY_NAME:
        return argv
    path = find_checkpoint(Path(given).expanduser())
    verb, *rest = argv
    rest = [*drop_flags(rest, (FLAG,)), f"{FLAG}={path}"]
    config = find_run_config(path)
    if config is None or (verb == "fit" and list_config_files(rest)):
        return [verb, *rest]
    return [verb, "-c", str(config), *rest]


def check_checkpoint(given: Any) -> None:
    """
    Raises:
        UserError: as `find_checkpoint`, where a checkpoint is given by its path and not by its name.
    """
    if given and str(given) not in BY_NAME:
        find_checkpoint(Path(given).expanduser())


def find_checkpoint(path: Path) -> Path:
    """A checkpoint by its path, or a run's newest whole one by its folder; those of several ranks are folders too.

    Raises:
        UserError: no such checkpoint, one that is damaged, or a folder that holds several runs.
    """
    if not path.exists():
        raise UserError(
            "no such checkpoint", got=str(path), expected="a file, a run's folder, or last", key="ckpt_path"
        )
    if not path.is_dir() or path.suffix == ".ckpt":
        if os.environ.get("LOCAL_RANK", "0") == "0":  # once on each machine
            check_whole(path)
        return path
    if (found := find_newest(path / LAST.parent)) is not None:
        # The same file under its usual name.
        return path / LAST if (path / LAST).exists() and (path / LAST).samefile(found) else found
    runs = sorted(str(each.parent.parent) for each in path.glob(f"*/{LAST}"))
    raise UserError(
        "several runs" if runs else "no checkpoint in this folder",
        got=str(path),
        expected=f"one of {', '.join(runs)}" if runs else f"{LAST} in it",
        key="ckpt_path",
    )


def find_run_config(checkpoint: Path) -> Path | None:
    """The config beside the folder that holds a checkpoint; None where it stands alone."""
    path = checkpoint.absolute().parent.parent / CONFIG
    return path if path.is_file() else None
