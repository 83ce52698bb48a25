"""What the benchmark on reasoning-gym says of its outcomes."""

import json
from dataclasses import asdict
from pathlib import Path

import yaml

from benchmarks.gym_signals import MIX, Job, compare_with_best, count_first_attempts, list_ends
from fdt.resources import resolve


def build_outcome(setting: str, arm: str, seed: int, right: list[int]) -> dict:
    return {"job": {"setting": setting, "arm": arm, "seed": seed}, "right": right}


def test_seeds_may_measure_unequal_numbers_of_prompts():
    """A generator may leave out prompts that repeat, so that one seed holds 89 and another 90."""
    outcomes = [
        build_outcome("gcd", MIX, 0, [1, 1, 0]),
        build_outcome("gcd", MIX, 1, [1, 0]),
        build_outcome("gcd", "scores", 0, [1, 0, 0]),
        build_outcome("gcd", "scores", 1, [1, 1]),
        build_outcome("gcd", "rewrites", 0, [0, 0, 0]),
        build_outcome("gcd", "rewrites", 1, [0, 1]),
    ]
    lines = compare_with_best(outcomes)
    assert lines[0].startswith(f"gcd: {MIX} - scores: ")
    assert lines[-1] == "mean over 1 generators: -8.3 points", "seeds count alike: +33.3 and -50"


def test_whoever_needed_a_second_attempt_was_not_right_at_the_first(tmp_path: Path):
    outcome = build_outcome("sums_retry", MIX, 0, [1, 1, 0]) | {"job": asdict(Job("sums_retry", MIX, 0, 5e-4))}
    folder = tmp_path / Job("sums_retry", MIX, 0, 5e-4).name / "eval"
    folder.mkdir(parents=True)
    records = [{"score": 1.0}, {"score": 1.0, "turns": 2}, {"score": 0.5}]  # half right is not right
    (folder / "last.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert count_first_attempts(tmp_path, outcome)["right"] == [1.0, 0.0, 0.0]
    assert list_ends(tmp_path, [outcome]) == ["sums_retry/dspo/seed-0-rate-0.0005: 83.3% right in the end"]


def test_a_second_attempt_has_the_generator_s_prompts():
    own = Job("sums_retry", MIX, 0, 5e-4).build_overrides()[-1]["data"]
    source = own["environment"]["init_args"]["task_source"]
    assert own["limits"]["max_turns"] == own["environment"]["init_args"]["max_attempts"] == 2
    assert source["init_args"] == Job("sums", MIX, 0).build_overrides()[-1]["data"]["environment"]["init_args"]
    assert (
        source["class_path"]
        == yaml.safe_load(resolve("task/gym_signals").read_text())["data"]["environment"]["class_path"]
    )
