"""Where a run comes from: its command, versions, machine, commit and the hash of its data, in ``run.json``."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fdt import __version__
from fdt.rollout.stored.hashes import hash_data

NAME = "run.json"
PACKAGES = ("torch", "transformers", "lightning", "peft", "trl", "datasets", "openai", "numpy", "tokenizers", "vllm")


def write_provenance(root: Path, files: Sequence[str | None], resumed: bool) -> None:
    """Writes ``run.json``; a run that goes on adds to what its former parts wrote.

    Args:
        root: the run's folder.
        files: the run's data, as far as it is files.
        resumed: whether the run goes on from a checkpoint.
    """
    path = root / NAME
    parts = json.loads(path.read_text(encoding="utf-8")) if resumed and path.is_file() else []
    parts.append(collect_provenance([Path(file) for file in files if file and Path(file).is_file()]))
    path.write_text(json.dumps(parts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def collect_provenance(files: Sequence[Path]) -> dict[str, Any]:
    """What another person needs to repeat the run."""
    return {
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": shlex.join(["fdt", *sys.argv[1:]]),
        "folder": os.getcwd(),
        "versions": {"fdt": __version__, "python": platform.python_version()} | read_versions(),
        "machine": {"system": platform.platform(), "processor": platform.machine(), "cores": os.cpu_count()},
        "commit": read_commit(Path(__file__).parent),
        "data": {str(file): hash_data(file) for file in files},
    }


def read_versions() -> dict[str, str]:
    """The versions of the packages that are installed, of those that matter."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def read_commit(folder: Path) -> str | None:
    """The commit of the source, with a mark where files differ from it; None outside a checkout."""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
