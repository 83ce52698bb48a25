"""Long forms of what docs/reliability.md promises: ``make soak``. Writes ``runs/soak/soak.json`` and prints a table.

python benchmarks/soak.py                        # all parts, an hour on 2 cores
python benchmarks/soak.py --parts kills,steps    # some of them
python benchmarks/soak.py --parts kills --moments 5
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.fdt.test_checkpoint_files import check_after_kill, kill_in_a_save  # noqa: E402
from tests.helpers.kills import KINDS, MOMENTS, Bed, compare, judge, kill_at  # noqa: E402
from tests.helpers.ranks import find_processes, start_ranks, wait_for_end, wait_for_text  # noqa: E402
from tests.helpers.runs import command, config, environment  # noqa: E402
from tests.helpers.servers import Server  # noqa: E402

WATCH = 12.0
"""Seconds that a step may take where ranks hang."""
Row = dict[str, Any]


def soak_kills(folder: Path, moments: int) -> Row:
    """G1: runs that are killed up to three times, at moments of four kinds, against one that was not."""
    chance = random.Random(0)
    killed = runs = equal = 0
    told: list[str] = []
    with Server(judge) as server:
        whole = {kind: Bed(folder / f"whole-{kind}", kind, server) for kind in KINDS}
        for bed in whole.values():
            bed.finish()
        while killed < moments and runs < 2 * moments:
            kind = list(KINDS)[runs % 2]
            bed = Bed(folder / f"broken-{runs}", kind, server)
            places = [MOMENTS[(runs // 2 + number) % len(MOMENTS)] for number in range(1 + runs % 3)]
            runs += 1
            kills = [(name, bed.steps[-1:]) for name in places if kill_at(bed, name, chance, "--ckpt_path", "last")]
            killed += len(kills)
            bed.finish("--ckpt_path", "last")
            differences = compare(bed, whole[kind])
            equal += not differences
            moments_told = ", ".join(f"{name} after step {''.join(map(str, step)) or 0}" for name, step in kills)
            told.append(f"{kind}: {moments_told}: {differences or 'equal'}")
            print(f"soak: {told[-1]}", flush=True)
    found = f"{equal} of {runs} runs, {killed} kills"
    return {"goal": "G1", "what": "kill -9, then resume: bit-identical", "found": found, "log": told}


def soak_ranks(folder: Path, moments: int) -> Row:
    """G1 on two ranks: one of them is killed, the run goes on."""
    chance = random.Random(1)
    count = max(1, moments // 4)
    equal = killed = 0
    told = []
    with Server(judge) as server:
        whole = Bed(folder / "whole", "updates", server, ranks=2)
        whole.finish()
        for number in range(count):
            bed = Bed(folder / f"broken-{number}", "updates", server, ranks=2)
            killed += kill_at(bed, MOMENTS[number % 3], chance)
            left = wait_for_end(bed.path, 30)
            bed.finish("--ckpt_path", "last")
            differences = compare(bed, whole)
            equal += not differences
            told.append(f"{MOMENTS[number % 3]}: {differences or 'equal'}; the other rank ended in {left:.1f} s")
            print(f"soak: 2 ranks, {told[-1]}", flush=True)
    found = f"{equal} of {count} ({killed} killed)"
    return {"goal": "G1", "what": "the same on 2 DDP ranks", "found": found, "log": told}


def soak_saves(folder: Path, moments: int) -> Row:
    """G2: kills while checkpoints are written without end."""
    count = moments * 5 // 2
    for number in range(count):
        kill_in_a_save(folder / str(number), random.Random(number))
        check_after_kill(folder / str(number))
    return {"goal": "G2", "what": "kills in a save that leave a bad checkpoint", "found": f"0 of {count}"}


def soak_signals(folder: Path, moments: int) -> Row:
    """G3: SIGTERM in training and in a measurement, to one process and to two."""
    told = []
    for ranks in (1, 2):
        for stage in ("training", "evaluation"):
            told.append(f"{ranks} ranks, {stage}: {send_signal(folder / f'{ranks}-{stage}', ranks, stage)}")
            print(f"soak: {told[-1]}", flush=True)
    good = sum("exit 143" in line for line in told)
    return {"goal": "G3", "what": "SIGTERM: exit 143, seconds", "found": f"{good} of {len(told)}", "log": told}


def send_signal(folder: Path, ranks: int, stage: str) -> str:
    """The exit code and seconds from signal to end."""
    folder.mkdir(parents=True)
    held = folder / "held.jsonl"
    count = 20_000 if stage == "evaluation" else 4
    held.write_text("".join(json.dumps({"prompt": f"{n}+1?", "reference": str(n + 1)}) + "\n" for n in range(count)))
    path = config(folder, trainer__max_steps=100_000, data__heldout=str(held))
    run = start_run(path, ranks)
    log = folder / "run" / ("run.json" if stage == "evaluation" else "log.txt")
    wait_for_text(log, "commit" if stage == "evaluation" else "step 3/", run)
    time.sleep(20 if stage == "evaluation" else 0)
    began = time.monotonic()
    os.killpg(run.pid, signal.SIGTERM)
    run.communicate(timeout=120)
    seconds = time.monotonic() - began
    left = len(find_processes(path))
    saved = (folder / "run" / "checkpoints" / "last.ckpt").exists()
    kept = "saved" if saved else "nothing trained yet"
    return (
        f"exit {run.returncode % 256 if run.returncode > 0 else run.returncode}, {seconds:.1f} s, {left} left, {kept}"
    )


def start_run(path: Path, ranks: int) -> subprocess.Popen:
    if ranks == 2:
        return start_ranks(path)
    out = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command("fit", "-c", path), env=environment(), start_new_session=True, **out)


def soak_hangs(folder: Path, moments: int) -> Row:
    """G5: one of two ranks hangs, dies or raises."""
    told = []
    for how in ("hang", "kill", "raise"):
        for rank in (0, 1):
            told.append(f"rank {rank}, {how}: {fail_rank(folder / f'{how}-{rank}', how, rank)}")
            print(f"soak: {told[-1]}", flush=True)
    return {"goal": "G5", "what": "a rank that fails: seconds, processes left", "found": "see log", "log": told}


def fail_rank(folder: Path, how: str, rank: int) -> str:
    """Exit code, seconds from the failure on, and what is left."""
    folder.mkdir(parents=True)
    callbacks = [
        {"class_path": "fdt.callbacks.Checkpoint", "init_args": {"every_n_train_steps": 1}},
        {"class_path": "fdt.callbacks.reliability.Watchdog", "init_args": {"step_timeout": WATCH}},
    ]
    grader = {"class_path": "tests.helpers.probes.FailsOnRank", "init_args": {"how": how, "rank": rank, "after": 3}}
    path = config(folder, trainer__callbacks=callbacks, data__grader=grader, trainer__max_steps=50)
    run = start_ranks(path)
    wait_for_text(folder / "run" / "log.txt", "step 1/", run)
    began = time.monotonic()
    text = run.communicate(timeout=300)[0]
    wait_for_end(path, 30)
    named = f"rank {rank} " in text
    left = len(find_processes(path))
    return f"exit {run.returncode}, {time.monotonic() - began:.1f} s, {left} left, rank named: {named}"


def soak_steps(folder: Path, moments: int) -> Row:
    """Many short steps: memory and open files at a twentieth of the run and at its end."""
    steps = moments * 100
    folder.mkdir(parents=True)
    probe = {"class_path": "tests.helpers.probes.Resources", "init_args": {"path": str(folder / "resources.csv")}}
    saves = {"class_path": "fdt.callbacks.Checkpoint", "init_args": {"every_n_train_steps": 50}}
    path = config(
        folder, "replay", trainer__callbacks=[saves, probe], trainer__max_steps=steps,
        trainer__check_val_every_n_epoch=100_000,
    )  # fmt: skip
    began = time.monotonic()
    subprocess.run(command("fit", "-c", path), env=environment(), check=True, stdout=subprocess.DEVNULL)
    rows = list(csv.DictReader((folder / "resources.csv").open()))
    first, last = rows[len(rows) // 20], rows[-1]
    found = (
        f"{steps} steps in {time.monotonic() - began:.0f} s: "
        f"{float(first['mb']):.0f} MB and {first['files']} files at step {first['step']}, "
        f"{float(last['mb']):.0f} MB and {last['files']} files at the end"
    )
    return {"goal": "soak", "what": "memory and open files", "found": found}


def soak_fuzz(folder: Path, moments: int) -> Row:
    """G7: readers under random bytes, damaged files and wrong types."""
    times = max(1, moments // 2)
    call = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        "tests/feedback/readers/test_round_trip.py",
    ]
    began = time.monotonic()
    done = subprocess.run(
        call, cwd=ROOT, env=environment(FDT_FUZZ=str(times)), capture_output=True, text=True, check=False
    )
    last = done.stdout.strip().splitlines()[-1]
    found = f"{last}, {times} x 10,000 cases, {time.monotonic() - began:.0f} s"
    return {"goal": "G7", "what": "readers under fuzz", "found": found}


def soak_shards(folder: Path, moments: int) -> Row:
    """G2: FSDP2 on two ranks, a folder of shards for each checkpoint; the newest is damaged, the one before goes on."""
    folder.mkdir(parents=True)
    path = config(folder, "replay", trainer__max_steps=3)
    sharded = {"class_path": "fdt.policy.fsdp.FSDP2"}
    sharded["init_args"] = {"save_distributed_checkpoint": True, "process_group_backend": "gloo"}
    path.write_text(json.dumps(config_with(path, strategy=sharded, devices=2)))
    first = subprocess.run(command("fit", "-c", path), env=environment(), capture_output=True, text=True, check=False)
    if first.returncode:
        return {"goal": "G2", "what": "shards", "found": "failed", "log": first.stderr.splitlines()[-20:]}
    newest = folder / "run" / "checkpoints" / "step-3.ckpt"
    shard = next(newest.glob("*.distcp"))
    shard.write_bytes(shard.read_bytes()[:-1])
    line = command("fit", "-c", path, "--ckpt_path", "last", "--trainer.max_steps", "4")
    again = subprocess.run(line, env=environment(), capture_output=True, text=True, check=False)
    good = again.returncode == 0 and "Going on from step-2.ckpt" in again.stderr
    log = again.stderr.splitlines()[-20:]
    return {
        "goal": "G2",
        "what": "FSDP2 shards, the newest damaged",
        "found": "goes on" if good else "fails",
        "log": log,
    }


def config_with(path: Path, **trainer: Any) -> dict[str, Any]:
    """A config's content with other settings of the trainer."""
    content: dict[str, Any] = yaml.safe_load(path.read_text())
    content["trainer"] |= trainer
    return content


PARTS: dict[str, Callable[[Path, int], Row]] = {
    "kills": soak_kills,
    "saves": soak_saves,
    "signals": soak_signals,
    "hangs": soak_hangs,
    "ranks": soak_ranks,
    "steps": soak_steps,
    "shards": soak_shards,
    "fuzz": soak_fuzz,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS), help="which, with commas: " + ", ".join(PARTS))
    parser.add_argument("--moments", type=int, default=20, help="kills; the other parts' lengths follow from it")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "soak")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    results = given.out / "soak.json"
    rows: dict[str, Row] = {}
    for name in given.parts.split(","):
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            row = PARTS[name](Path(folder) / name, given.moments)
        row |= {"date": datetime.now().astimezone().date().isoformat(), "seconds": round(time.monotonic() - began)}
        rows = (json.loads(results.read_text()) if results.exists() else {}) | {name: row}
        results.write_text(json.dumps(rows, indent=1))
    print("| Part | Goal | What | Found | Took | Date |\n|---|---|---|---|---|---|")
    for name, row in rows.items():
        print(f"| {name} | {row['goal']} | {row['what']} | {row['found']} | {row['seconds']} s | {row['date']} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
