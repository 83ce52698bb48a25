"""Runs that are killed at random moments and go on: they must end as the run that was never broken."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import re
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from fdt.checkpoint_files import find_damage, list_checkpoints
from tests.helpers.runs import command, config, environment, fork
from tests.helpers.servers import Answer, Call, Server, completion

TRUST = {"class_path": "objectives.ScoreGate", "init_args": {"score": "trust", "comparison": "weight"}}
TERMS = {
    "policy": {
        "class_path": "objectives.PolicyGradient",
        "init_args": {"truncate": 2.0, "gate": {"class_path": "objectives.Not", "init_args": {"gate": TRUST}}},
    },
    "distill": {
        "class_path": "objectives.Distill",
        "init_args": {"k": None, "gate": TRUST, "token_weight": {"class_path": "objectives.PrefixTrust"}},
    },
    "anchor": {"class_path": "objectives.KLAnchor"},
}
EVERYTHING: dict[str, Any] = {
    "model__terms": TERMS,
    "model__lora": {"rank": 4, "dropout": 0.1},
    "model__teacher": {"class_path": "fdt.policy.teachers.EMA", "init_args": {"rate": 0.1}},
    "model__optimizer": {"class_path": "fdt.policy.optimizers.SignalAdamW", "init_args": {"lr": 0.01}},
    "model__trust": {"class_path": "fdt.policy.annotator_trust.AnnotatorTrust"},
    "model__lr_scheduler_type": "held_linear",
    "trainer__max_steps": 12,
}
"""Dropout, an averaged teacher, moments for each term, trust in the judge, a rate that is held and falls."""
UPDATES = {
    "data__source": {
        "class_path": "fdt.rollout.sources.OnPolicy",
        "init_args": {
            "prompts_per_rollout": 2,
            "num_generations": 2,
            "updates_per_rollout": 2,
            "dynamic": {"class_path": "fdt.rollout.dynamic_sampling.DynamicSampling", "init_args": {"max_refills": 1}},
        },
    },
}
"""Several updates to a rollout, and dynamic sampling."""
MEMORY = {
    "data__source": {
        "class_path": "fdt.rollout.sources.OnPolicy",
        "init_args": {
            "prompts_per_rollout": 2,
            "num_generations": 2,
            "memory": {"class_path": "fdt.rollout.memory.ScoredMemory", "init_args": {"share": 0.9}},
        },
    },
}
"""A memory of scored answers; the judge leaves some without a score, which others fill up."""
KINDS = {"updates": (UPDATES, 2, 4), "memory": (MEMORY, 1, 2)}
"""Settings, steps between two checkpoints, and steps of an epoch."""
MOMENTS = ("anywhere", "save", "epoch end", "judge")


def read_answer(call: Call) -> str:
    """The answer that the judge is asked about."""
    return call.prompt.split("<answer-")[1].split("\n", 1)[1].rsplit("\n</answer-", 1)[0]


def judge(call: Call) -> Answer:
    """A score by the answer alone; some have none, and say so in a reply that nobody can read."""
    size = len(read_answer(call).encode())
    score = 2 + size % 9 if size % 3 else "none"
    return completion(json.dumps({"analysis": "", "critique": "Too short.", "score": score}))


@dataclass
class Bed:
    """A folder with a config, and a judge for it."""

    folder: Path
    kind: str
    server: Server
    ranks: int = 1
    path: Path = field(init=False)

    def __post_init__(self) -> None:
        settings, every, self.epoch = KINDS[self.kind]
        gateway = {"model": "m", "base_url": self.server.url, "cache": str(self.folder / "calls"), "concurrency": 2}
        grader = {"class_path": "feedback.graders.PointwiseJudge", "init_args": {"gateway": gateway}}
        saves = [{"class_path": "fdt.callbacks.Checkpoint", "init_args": {"every_n_train_steps": every}}]
        self.folder.mkdir(parents=True, exist_ok=True)
        changes = EVERYTHING | settings | {"data__grader": grader, "trainer__callbacks": saves}
        self.path = config(self.folder, **changes)

    @property
    def steps(self) -> list[int]:
        """The steps that the log tells, in order."""
        log = self.folder / "run" / "log.txt"
        return [int(n) for n in re.findall(r"step (\d+)/", log.read_text())] if log.exists() else []

    def start(self, *arguments: str) -> Process:
        """One run; on several ranks the command itself, else a process forked from one that has imported everything."""
        place = Path(tempfile.mkdtemp(dir=self.folder))
        argv = ["fit", "-c", str(self.path), *arguments]
        if self.ranks == 1:
            return Process(fork(argv, place / "out", place / "err"), place / "err")
        argv += ["--trainer.devices", str(self.ranks), "--trainer.strategy", "ddp"]
        with (place / "out").open("w") as out, (place / "err").open("w") as err:
            started = subprocess.Popen(command(*argv), env=environment(), stdout=out, stderr=err)
        return Process(started, place / "err")

    def finish(self, *arguments: str, seconds: float = 600) -> None:
        """A run to its end."""
        run = self.start(*arguments)
        assert run.wait(seconds) == 0, run.errors[-3000:]


@dataclass
class Process:
    """A run that was started."""

    handle: multiprocessing.Process | subprocess.Popen
    err: Path

    @property
    def pid(self) -> int:
        assert self.handle.pid is not None
        return self.handle.pid

    @property
    def errors(self) -> str:
        return self.err.read_text()

    def is_alive(self) -> bool:
        return self.handle.is_alive() if hasattr(self.handle, "is_alive") else self.handle.poll() is None

    def wait(self, seconds: float) -> int | None:
        """The exit code; None where it still runs."""
        if isinstance(self.handle, subprocess.Popen):
            try:
                return self.handle.wait(seconds)
            except subprocess.TimeoutExpired:
                return None
        self.handle.join(seconds)
        return self.handle.exitcode


def kill_at(bed: Bed, moment: str, chance: random.Random, *arguments: str) -> bool:
    """Starts the run and kills it, beyond what earlier runs reached; False where it had ended before."""
    steps = EVERYTHING["trainer__max_steps"]
    run = bed.start(*arguments)
    killed = False

    def kill(pid: int | None = None) -> None:
        nonlocal killed
        if run.is_alive() and not killed:
            killed = True
            os.kill(pid or run.pid, signal.SIGKILL)

    if moment == "judge":
        left = chance.randrange(6, 30)

        def behave(call: Call) -> Answer:
            nonlocal left
            left -= 1
            if left == 0:
                kill()
            return judge(call)

        bed.server.behave = behave
    size = bed.epoch if moment == "epoch end" else 1
    reached = max(bed.steps, default=0)
    at = max(chance.randrange(1, steps // size) * size, reached + size - reached % size)
    wait = {"anywhere": chance.random(), "epoch end": chance.random() * 0.2}.get(moment, 0.0)
    checkpoints = bed.folder / "run" / "checkpoints"

    def is_due() -> bool:
        if moment == "judge":
            return killed
        if moment == "save" and any(checkpoints.glob(".step*.part")):
            return max(bed.steps, default=0) >= at - 2
        return moment != "save" and max(bed.steps, default=0) >= at

    wait_until(is_due, run, pause=0.0005 if moment == "save" else 0.02)
    time.sleep(wait)
    kill()
    run.wait(60)
    bed.server.behave = judge
    return killed


def wait_until(is_due: Callable[[], bool], run: Process, pause: float, seconds: float = 400) -> None:
    """Waits for a moment, or for the end of the run."""
    end = time.monotonic() + seconds
    while not is_due() and run.is_alive():
        assert time.monotonic() < end, run.errors[-3000:]
        time.sleep(pause)


def load_last(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "run" / "checkpoints" / "last.ckpt", weights_only=True)


def find_differences(one: Any, other: Any, place: str = "") -> list[str]:
    """Where two checkpoints differ, bit by bit; folders and times of day do not count."""
    if isinstance(one, torch.Tensor):
        return [] if torch.equal(one, other) else [place]
    if isinstance(one, dict):
        if one.keys() != other.keys():
            return [f"{place}: {sorted(map(str, one.keys() ^ other.keys()))}"]
        return [line for key in one for line in find_differences(one[key], other[key], f"{place}/{key}")]
    if isinstance(one, list | tuple):
        if len(one) != len(other):
            return [f"{place}: {len(one)} and {len(other)}"]
        pairs = enumerate(zip(one, other, strict=True))
        return [line for n, pair in pairs for line in find_differences(*pair, f"{place}/{n}")]
    return [] if one == other or one != one else [f"{place}: {one} and {other}"]


def compare(bed: Bed, whole: Bed) -> list[str]:
    """What differs between a run that was broken and one that was not: weights, moments, counters, answers, calls."""
    kept = ("state_dict", "optimizer_states", "lr_schedulers", "trust", "score_share", "global_step", "epoch")
    mine, theirs = load_last(bed.folder), load_last(whole.folder)
    found = [line for key in kept for line in find_differences(mine[key], theirs[key], key)]
    for key in ("memory", "score_names", "nonfinite_steps"):
        found += find_differences(mine["run"].get(key), theirs["run"].get(key), key)
    found += find_differences(mine["callbacks"]["Accounting"], theirs["callbacks"]["Accounting"], "accounting")
    if read_transcripts(bed) != read_transcripts(whole):
        found.append("transcripts")
    events = [json.loads(line) for line in (bed.folder / "calls" / "calls.jsonl").read_text().splitlines() if line]
    replies = Counter(event["key"] for event in events if event["event"] == "reply")
    if any(count > 1 for count in replies.values()):
        found.append("a reply was paid for twice")
    damaged = [path.name for path in list_checkpoints(bed.folder / "run" / "checkpoints") if find_damage(path)]
    return found + [f"damaged: {name}" for name in damaged]


def read_transcripts(bed: Bed) -> list[tuple[Any, ...]]:
    rows = [json.loads(line) for line in (bed.folder / "run" / "transcripts.jsonl").read_text().splitlines()]
    return [(row["step"], row["id"], row["response"], row["score"], row["advantage"]) for row in rows]
