"""Arms: runs of one config that differ in a few settings, one process each, side by side in one table.

Where the system can, an arm's process is a copy of this one, which has imported everything already.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml

from fdt.cli.exit_codes import run_command
from fdt.cli.run.arguments import CONFIG_FLAGS, drop_flags, list_config_files, list_flags, load_yaml
from fdt.errors import UserError

UNTOUCHED = {
    "model.terms",
    "model.coefficients",
    "model.teacher",
    "model.optimizer",
    "model.warmup_steps",
    "data.source",
    "data.credit",
    "data.hint",
    "data.rewriter",
    "data.shuffle_critiques",
}


@dataclass(frozen=True)
class Arms:
    """Named overrides, and the folder under which each arm has its own."""

    overrides: dict[str, dict[str, Any]]
    root: Path


def read_arms(argv: list[str]) -> Arms | None:
    """The arms of a ``fit`` command, or None where it has none (or has switched them off with ``--arms=null``); of the
    config's arms some with ``--arms='[scores, both]'``.

    Raises:
        UserError: where they are neither, or a name is none of the config's.
    """
    if (
        not argv
        or argv[0] != "fit"
        or any(a.split("=")[0] == "--print_config" for a in argv)
        or "LOCAL_RANK" in os.environ
    ):
        return None
    arms: Any = None
    root = "runs/fdt"
    for path in list_config_files(argv):
        content = load_yaml(path)
        arms = content.get("arms", arms)
        root = (content.get("trainer") or {}).get("default_root_dir", root)
    for name, value in list_flags(argv):
        if name == "--arms":
            asked = yaml.safe_load(value)
            arms = pick_arms(arms, asked) if isinstance(asked, list) else asked
        if name == "--trainer.default_root_dir":
            root = value
    if arms is not None and not (isinstance(arms, dict) and all(isinstance(v, dict) for v in arms.values())):
        raise UserError("arms", got=str(arms)[:80], expected="a mapping of names to mappings of overrides", key="arms")
    return Arms(arms, Path(root)) if arms else None


def pick_arms(arms: Any, names: list[Any]) -> dict[str, Any]:
    """Those of a config's arms that are named, in the order of the names.

    Raises:
        UserError: where one is not there, or none is named.
    """
    known = arms if isinstance(arms, dict) else {}
    wrong = [name for name in names if name not in known]
    if wrong or not names:
        raise UserError(
            "--arms", got=str(wrong or names), expected=f"names among {', '.join(known) or 'no arms'}", key="arms"
        )
    return {name: known[name] for name in names}


def run_arms(argv: list[str], arms: Arms, run: Callable[[list[str]], int | None]) -> int:
    """Runs the arms one after another; stops at the first that fails and returns its exit code.

    Args:
        argv: the command that names the arms.
        arms: what `read_arms` found.
        run: runs a command without arms.
    """
    measured: Path | None = None
    last = max((n for n, a in enumerate(argv) if a in CONFIG_FLAGS), default=-1)
    for number, (name, overrides) in enumerate(arms.overrides.items(), 1):
        folder = arms.root / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        overlay = arms.root / f"{name}.overrides.yaml"
        overlay.write_text(yaml.safe_dump(overrides, sort_keys=False), encoding="utf-8")
        own = [*argv[: last + 2], "-c", str(overlay), *argv[last + 2 :]] if last >= 0 else [*argv, "-c", str(overlay)]
        own = drop_flags(own, ("--arms", "--trainer.default_root_dir"))
        own += ["--arms=null", f"--trainer.default_root_dir={folder}"]
        if measured is not None and can_reuse_base(overrides) and not any(a.startswith("--ckpt_path") for a in argv):
            own += ["--trainer.num_sanity_val_steps=0", f"--base_from={measured}"]
        print(f"\nfdt: arm {number} of {len(arms.overrides)}: {name}", flush=True)
        began = time.monotonic()
        status = run_arm(own, run)
        if status:
            print(f"fdt: arm {name} ended with exit code {status}", file=sys.stderr)
            return status if status > 0 else 128 - status
        print(f"fdt: arm {name} took {time.monotonic() - began:.0f} s", flush=True)
        if measured is None and can_reuse_base(overrides):
            measured = folder / "eval" / "base.jsonl"
    return 0


def run_arm(argv: list[str], run: Callable[[list[str]], int | None]) -> int:
    """Runs one arm in a process of its own; what asks this process to stop is left to the arm, which saves first."""
    if sys.platform == "linux":  # elsewhere libraries do not survive a copy
        # A request that comes before it can be handed on waits.
        held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        child = os.fork()
        if not child:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
            run_as_child(argv, run)

        def wait() -> int:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

        return wait_for(wait, child)
    with subprocess.Popen([sys.executable, "-m", "fdt", *argv]) as process:
        return wait_for(process.wait, process.pid)


def run_as_child(argv: list[str], run: Callable[[list[str]], int | None]) -> NoReturn:
    """Runs a command in a process that was forked for it, which ends with it."""
    sys.argv[1:] = argv  # what ranks of this arm are started with
    status = 1
    try:
        status = run_command(lambda: run(argv))
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def wait_for(wait: Callable[[], int], child: int) -> int:
    """The exit code of a child; interrupts are its own business, and a request to stop is handed on."""
    handlers = {
        signal.SIGINT: lambda *_: None,  # a terminal sends it to the arm as well
        signal.SIGTERM: lambda *_: os.kill(child, signal.SIGTERM),
    }
    former = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        return wait()
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def can_reuse_base(overrides: dict[str, Any]) -> bool:
    """Whether an arm starts from the same policy and is measured alike, so that its base row need not be made again."""
    flat = [f"{block}.{name}" for block, settings in overrides.items() for name in settings or {}]
    return all(name in UNTOUCHED or name.startswith("trainer.max_") for name in flat)
