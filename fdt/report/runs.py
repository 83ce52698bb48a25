"""Reads what `fit` left in a run folder; what a killed run left half-written is reported and passed over."""

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from fdt.errors import UserError
from fdt.resources import parse_yaml

Record = dict[str, Any]
CONFIG = "config.yaml"
EVAL = "eval"
METRICS = "metrics"
TRANSCRIPTS = "transcripts.jsonl"
PREDICTIONS = "predictions.jsonl"
ACCOUNTING = "accounting.json"
FORMER = re.compile(r"\.old\d+$")


@dataclass(frozen=True)
class Run:
    """One arm: what was asked for, what was logged, and the answers to the held-out prompts before and after."""

    name: str
    folder: Path
    config: Record = field(default_factory=dict)
    # column -> values [R], one per logged step, NaN where blank; always has "step"
    metrics: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    # "base", "last", ... -> one record per held-out prompt
    evals: dict[str, list[Record]] = field(default_factory=dict)
    accounting: Record = field(default_factory=dict)
    # what could not be read, one line each
    problems: list[str] = field(default_factory=list)

    def get_series(self, column: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Steps [n] and values [n] of one column, without its blanks; empty where the column was never logged."""
        values = self.metrics.get(column, np.empty(0))
        if not len(values):
            return np.empty(0), np.empty(0)
        logged = np.isfinite(values)
        return self.metrics["step"][logged], values[logged]

    def read_transcripts(self) -> Iterator[Record]:
        """Training episodes in file order; where a resumed run repeated a step, the earlier record too."""
        path = self.folder / TRANSCRIPTS
        if path.exists():
            # Each pass meets the same broken lines again; they are reported once.
            problems: list[str] = []
            yield from read_records(path, problems)
            self.problems.extend(problem for problem in problems if problem not in self.problems)


def find_runs(root: Path | str, unmeasured: bool = False) -> list[Run]:
    """Every arm below `root` in the order in which they were started; `root` may itself be one.

    Former runs that `fit` moved aside (``NAME.old1``) are passed over unless they are asked for by name. `unmeasured`:
    runs before their first evaluation count too.

    Raises:
        UserError: no such folder, or no arm in it.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError("no such run folder", got=str(root), expected="a folder that `fdt fit` wrote")
    folders = [root]
    if not _is_arm(root, unmeasured):
        arms = [child for child in root.iterdir() if _is_arm(child, unmeasured) and not FORMER.search(child.name)]
        folders = sorted(arms, key=lambda arm: ((arm / CONFIG).stat().st_mtime_ns, arm.name))
    if not folders:
        raise UserError(
            "no run in this folder",
            expected=f"{CONFIG} and {EVAL}/, in the folder itself or one level below",
            remedy="A run that stopped before its first evaluation has nothing to report yet.",
            path=root,
        )
    return [read_run(folder) for folder in folders]


def gather_runs(roots: list[Path], unmeasured: bool = False) -> list[Run]:
    """The arms of several folders in the order given; arms of one name are distinguished by their folder's name.

    Raises:
        UserError: as `find_runs`.
    """
    found = [(Path(root).resolve().name, run) for root in roots for run in find_runs(root, unmeasured)]
    names = [run.name for _, run in found]
    runs: list[Run] = []
    for parent, run in found:
        name = run.name
        if names.count(name) > 1:
            name = f"{parent if parent != name else run.folder.resolve().parent.name}/{name}"
        taken = [other.name for other in runs]
        runs.append(Run(**{**vars(run), "name": name if name not in taken else f"{name} ({len(runs) + 1})"}))
    return runs


def read_run(folder: Path | str) -> Run:
    """Reads one arm. Missing and broken files become lines in `problems`; nothing raises."""
    folder = Path(folder)
    problems: list[str] = []
    evals = {path.stem: list(read_records(path, problems)) for path in sorted((folder / EVAL).glob("*.jsonl"))}
    problems += [f"{folder / EVAL / name}.jsonl: missing" for name in ("base", "last") if name not in evals]
    for required in (TRANSCRIPTS, ACCOUNTING):
        if not (folder / required).exists():
            problems.append(f"{folder / required}: missing")
    return Run(
        name=folder.resolve().name,
        folder=folder,
        config=_read_mapping(folder / CONFIG, problems),
        metrics=_read_metrics(folder / METRICS, problems),
        evals=evals,
        accounting=_read_mapping(folder / ACCOUNTING, problems) if (folder / ACCOUNTING).exists() else {},
        problems=problems,
    )


def _is_arm(folder: Path, unmeasured: bool) -> bool:
    return (folder / CONFIG).is_file() and (unmeasured or (folder / EVAL).is_dir())


def read_records(path: Path, problems: list[str]) -> Iterator[Record]:
    """The lines of a file that a run wrote; what cannot be read is passed over, with a line in `problems`."""
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                what = "not JSON" if line.endswith("\n") else "half-written last line, as a killed run leaves it"
                problems.append(f"{path}:{number}: {what}; passed over")
                continue
            if isinstance(record, dict):
                yield record
            else:
                problems.append(f"{path}:{number}: got {type(record).__name__}, expected an object; passed over")


def _read_mapping(path: Path, problems: list[str]) -> Record:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
        content = json.loads(text) if path.suffix == ".json" else parse_yaml(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        problems.append(f"{path}: cannot be read ({type(error).__name__}); passed over")
        return {}
    if not isinstance(content, dict):
        problems.append(f"{path}: got {type(content).__name__}, expected a mapping; passed over")
        return {}
    return content


def _read_metrics(folder: Path, problems: list[str]) -> dict[str, NDArray[np.float64]]:
    """Columns over all versions; a resumed run (a later version) overrides the steps that it repeats."""
    versions = sorted(folder.glob("version_*/metrics.csv"), key=_get_version)
    if not versions:
        problems.append(f"{folder}: no metrics.csv")
    steps: dict[float, dict[str, float]] = {}
    for path in versions:
        fresh: dict[float, dict[str, float]] = {}
        for row in _read_rows(path, problems):
            fresh.setdefault(row.pop("step"), {}).update(row)
        steps.update(fresh)
    columns = dict.fromkeys(column for row in steps.values() for column in row)
    order = sorted(steps)
    merged = {column: np.array([steps[step].get(column, nan) for step in order]) for column in columns}
    return {"step": np.array(order), **merged}


def _get_version(path: Path) -> int:
    match = re.fullmatch(r"version_(\d+)", path.parent.name)
    return int(match.group(1)) if match else -1


def _read_rows(path: Path, problems: list[str]) -> Iterator[dict[str, float]]:
    """Rows with a step, blanks left out."""
    text = path.read_text(encoding="utf-8", errors="replace")
    lines = text.replace("\0", "").splitlines()
    if lines and not text.endswith("\n"):
        # A number cut in half still reads as a number, so the whole line goes.
        problems.append(f"{path}:{len(lines)}: half-written last line; passed over")
        lines.pop()
    for number, row in enumerate(csv.DictReader(lines), 2):
        try:
            values = {column: float(value) for column, value in row.items() if column and value}
        except (TypeError, ValueError):
            problems.append(f"{path}:{number}: a value is not a number; passed over")
            continue
        if "step" in values:
            yield values
