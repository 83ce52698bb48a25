"""Runs ``fdt`` as a user does, on a tiny model."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from tests.helpers.paths import ROOT
from tests.helpers.tiny import save_model, save_rows


def config(folder: Path, mode: str = "on_policy", **changes) -> Path:
    """A run's config on a tiny model; ``changes`` are dotted settings with ``__`` for the dot."""
    model = folder / "model"
    if not model.exists():
        save_model(model)
    rows = folder / "rows.jsonl"
    if not rows.exists():
        save_rows(rows)
    source = {
        "on_policy": {
            "class_path": "fdt.rollout.sources.OnPolicy",
            "init_args": {"prompts_per_rollout": 2, "num_generations": 2},
        },
        "replay": {"class_path": "fdt.rollout.sources.Replay", "init_args": {"rows_per_step": 4}},
    }[mode]
    content = {
        "trainer": {
            "default_root_dir": str(folder / "run"),
            "max_steps": 3,
            "max_epochs": -1,
            "accelerator": "cpu",
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "callbacks": [{"class_path": "fdt.callbacks.Checkpoint", "init_args": {"every_n_train_steps": 1}}],
        },
        "model": {
            "base": str(model),
            "lora": {"rank": 4},
            "dtype": "float32",  # the same on every machine, also on one that multiplies bfloat16 natively
            "terms": {
                "policy": {"class_path": "objectives.PolicyGradient", "init_args": {"truncate": 2.0}},
                "distill": {"class_path": "objectives.Distill", "init_args": {"k": 16}},
                "imitate": {"class_path": "objectives.Imitate"},
            },
        },
        "data": {
            "file": str(rows),
            "heldout": 0.34,
            "source": source,
            "grader": {"class_path": "feedback.graders.NumberMatch"},
            "engine": {"class_path": "fdt.engines.HuggingFace", "init_args": {"max_new_tokens": 6}},
            "evaluation_batch": 2,
        },
    }
    for name, value in changes.items():
        *parents, last = name.split("__")
        place = content
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def without_terms(path: Path, *names: str, **data) -> Path:
    """The config without its terms, so that an overlay's stands, and without these settings of `data`."""
    content = yaml.safe_load(path.read_text())
    del content["model"]["terms"]
    for name in names:
        del content["data"][name]
    content["data"] |= data
    path.write_text(yaml.safe_dump(content))
    return path


def fdt(*arguments: str, timeout: int = 300, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess:
    """Runs the command in a process of its own, one thread."""
    return subprocess.run(
        command(*arguments),
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=cwd,
        check=False,
    )


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "fdt", *map(str, arguments)]


def environment(**env: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"} | env


def quick(*arguments: str, timeout: int = 300, **env: str) -> subprocess.CompletedProcess:
    """The same for a run on one rank, without its report, forked from a process that has imported everything."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        argv = list(map(str, arguments))
        child = fork(argv, out, err, **env)
        child.join(timeout)
        if child.is_alive():
            child.kill()
            child.join()
            raise subprocess.TimeoutExpired(argv, timeout, stderr=err.read_text())
        return subprocess.CompletedProcess(argv, child.exitcode, out.read_text(), err.read_text())


def fork(argv: list[str], out: Path, err: Path, **env: str) -> multiprocessing.Process:
    """Starts such a run, with files for what it prints."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["fdt.cli.run.lightning_cli", "fdt.engines", "transformers.models.llama.modeling_llama", "peft"]
    )
    child = context.Process(target=_as_command, args=(argv, str(out), str(err), environment(**env)))
    child.start()
    return child


def _as_command(argv: list[str], out: str, err: str, env: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(env)
    for path, number in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    sys.argv = ["fdt", *argv]
    sys.path[:0] = [path for path in env.get("PYTHONPATH", "").split(os.pathsep) if path not in sys.path]
    from fdt.__main__ import main
    from fdt.cli.run import lightning_cli

    lightning_cli.report_results = lambda root: None

    sys.exit(main(argv))
