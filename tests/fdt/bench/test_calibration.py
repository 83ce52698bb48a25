"""`fdt bench calibration`: its arithmetic by hand, its verdicts, and two arms for a few steps by the real trainer."""

from __future__ import annotations

import importlib
import json
from math import isnan, nan
from pathlib import Path

import numpy as np
import pytest
import yaml

from fdt.bench import BENCHES, main
from fdt.bench.base import BASE, TUNING_SEED, build_measuring_jobs
from fdt.bench.calibration import ARMS, RATE, WORLD, Calibration, ConfidenceJob
from fdt.bench.calibration_results import (
    ORACLE,
    Level,
    answer_questions,
    compute_differences,
    compute_levels,
    decide_above,
    decide_below,
    decide_within,
    get_confidences,
    resample_runs,
    simulate_oracle,
)
from fdt.bench.reliability import NOTES
from fdt.environments.conventions import Conventions
from fdt.resources import resolve
from fdt.statistics.intervals import Interval
from fdt.statistics.nested import compute_draws_interval


def outcome(arm: str, right: list[float], confidence: list[float | None], seed: int = 0) -> dict:
    tasks = Conventions(**WORLD, wavering_seed=seed).sample_tasks("heldout", len(right), 0)
    job = ConfidenceJob("wavering", arm, seed).to_dict()
    given = {"right": right, "confidence": confidence, "prompts": [task.key for task in tasks]}
    return {"job": job, **given, "seconds": 1.0, "steps": []}


def rows(runs: list[dict]) -> list[Level]:
    return compute_levels(runs, resample_runs(runs))


def test_levels_by_hand():
    # Four of five right at 0.9: Brier (4 · 0.01 + 0.81) / 5 = 0.17; one confidence for all ranks nothing: AUROC 0.5.
    row, _ = rows([outcome(BASE, [1.0, 1.0, 1.0, 1.0, 0.0] * 40, [0.9] * 200)])
    found = {name: value.mean for name, value in row.numbers.items()}
    assert found == pytest.approx({"right": 0.8, "stated": 0.9, "brier": 0.17, "ece": 0.1, "auroc": 0.5}, abs=0.005)
    # 200 coins at 0.8: standard error sqrt(0.16 / 200) = 0.028.
    assert row.numbers["right"].high - 0.8 == pytest.approx(1.96 * 0.028, abs=0.01)


def test_what_cannot_be_read_counts_as_stating_0_and_is_counted():
    row, _ = rows([outcome(BASE, [0.0, 1.0], [None, 1.0])])
    assert row.unread == 0.5 and row.numbers["brier"].mean == 0.0 and row.numbers["stated"].mean == 0.5


def test_a_measure_that_does_not_exist_is_absent():
    row, _ = rows([outcome(BASE, [0.0] * 20, [0.5] * 20)])
    assert isnan(row.numbers["auroc"].mean) and row.numbers["right"].mean == 0.0


def test_the_oracle_is_calibrated_and_knows_whom_to_trust():
    *_, oracle = rows([outcome(BASE, [0.0] * 3000, [0.5] * 3000, seed) for seed in range(2)])
    # Chances 0.8, 0.6, 0.4, 0.2, mean 0.5; Brier: mean of p (1 - p) = (0.16 + 0.24 + 0.24 + 0.16) / 4 = 0.2. Right
    # answers are to these users in shares 0.4, 0.3, 0.2, 0.1, wrong ones in 0.1, 0.2, 0.3, 0.4. AUROC: a right one is
    # to a steadier user in 0.4 · 0.9 + 0.3 · 0.7 + 0.2 · 0.4 = 0.65 of the pairs; ties, 0.2, count half: 0.75.
    assert oracle.numbers["right"].mean == pytest.approx(0.5, abs=0.02)
    assert oracle.numbers["brier"].mean == pytest.approx(0.2, abs=0.01)
    assert oracle.numbers["ece"].mean < 0.02 and oracle.numbers["auroc"].mean == pytest.approx(0.75, abs=0.02)


def test_the_oracle_is_asked_the_same_prompts():
    q, _ = simulate_oracle(outcome(BASE, [0.0] * 50, [0.5] * 50, seed=3))
    world = Conventions(**WORLD, wavering_seed=3)
    assert q.tolist() == pytest.approx(
        [1 - world.switch_chances[task.meta["user"]] for task in world.sample_tasks("heldout", 50, 0)]
    )


def test_differences_pair_prompts_and_seeds():
    right = [1.0, 0.0] * 100
    stated = {"plain": [1.0] * 200, "brier": [0.5] * 200}
    runs = [*(outcome(arm, right, sure) for arm, sure in stated.items()), outcome("brier", right, stated["brier"], 1)]
    (gap,) = compute_differences(resample_runs(runs))
    assert (gap.arm, gap.baseline) == ("brier", "plain")
    # Equal answers: their difference is 0 in every resample. Brier 0.25 against 0.5, ECE 0 against 0.5.
    assert (gap.numbers["right"].mean, gap.numbers["right"].low, gap.numbers["right"].high) == (0.0, 0.0, 0.0)
    assert gap.numbers["brier"].mean == -0.25 and gap.numbers["ece"].mean == pytest.approx(-0.5, abs=0.01)


def test_questions_are_answered_as_far_as_arms_were_run():
    rng = np.random.default_rng(0)
    runs = []
    for seed in range(3):
        chance = rng.choice([0.2, 0.8], 1000)
        right = (rng.random(1000) < chance).astype(float).tolist()
        runs += [outcome("plain", right, [0.9] * 1000, seed), outcome("brier", right, chance.tolist(), seed)]
    found = answer_questions(resample_runs(runs))
    assert [(a.number, a.verdict) for a in found] == [
        ("ECE brier - ECE plain / 2", "yes"),
        ("AUROC brier", "yes"),
        ("right brier - right plain", "yes"),
    ]


@pytest.mark.parametrize(
    ("low", "high", "beyond", "half", "equal"),
    [
        (0.61, 0.7, "yes", "no", "no"),
        (0.55, 0.65, "undecided", "no", "no"),
        (-0.01, 0.01, "no", "undecided", "yes"),
        (-0.3, -0.1, "no", "yes", "no"),
        (-0.03, 0.01, "no", "undecided", "undecided"),
        (nan, nan, *["undecided"] * 3),
    ],
)
def test_verdicts(low: float, high: float, beyond: str, half: str, equal: str):
    value = Interval((low + high) / 2, low, high)
    assert (decide_above(0.6, value), decide_below(value), decide_within(value)) == (beyond, half, equal)


def test_draws_of_several_seeds_make_one_interval():
    # Pools spread by 0.1 around 0 and 1: variance of the mean of two drawn seeds is (0.25 + 0.01) / 2.
    rng = np.random.default_rng(0)
    found = compute_draws_interval([0.0, 1.0], [rng.normal(0.0, 0.1, 500), rng.normal(1.0, 0.1, 500)])
    assert found.mean == 0.5 and found.low < 0.0 and found.high > 1.0
    alone = compute_draws_interval([0.0], [rng.normal(0.0, 0.1, 5000)])
    assert (alone.low, alone.high) == pytest.approx((-1.96 * 0.1, 1.96 * 0.1), rel=0.06)
    for pools in ([], [[]], [[nan]]):
        with pytest.raises(ValueError, match="at least one seed"):
            compute_draws_interval([0.0] * len(pools), pools)


def test_every_arm_is_an_arm_of_the_config_and_differs_by_what_it_says():
    content = yaml.safe_load(resolve(ConfidenceJob.config).read_text(encoding="utf-8"))
    assert tuple(content["arms"]) == ARMS
    assert set(NOTES) == {BASE, ORACLE, *ARMS}, "an arm without a note ends the bench after its runs"
    assert content["data"]["environment"]["init_args"] == WORLD
    bench = Calibration()
    jobs = build_measuring_jobs(bench, list(bench.settings), ARMS, bench.rates, 2, 0)
    assert [job.arm for job in jobs] == [BASE, *ARMS] * 2 and jobs[-1].build_overrides()[1]["data"]["environment"] == {
        "init_args": {**WORLD, "wavering_seed": 1}
    }
    assert {job.rate for job in jobs if job.arm != BASE} == {RATE} and TUNING_SEED not in {job.seed for job in jobs}


def test_help_names_every_bench_and_explains_this_one(capsys: pytest.CaptureFixture):
    for asked in (["--help"], ["calibration", "--help"]):
        with pytest.raises(SystemExit) as ended:
            main(asked)
        assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert all(f"\n    {name}" in shown for name in BENCHES)
    assert "Four users waver" in shown and "--tune" not in shown  # there is one rate for all arms


def test_every_bench_answers_to_its_own_name():
    for name, (module, found) in BENCHES.items():
        bench = getattr(importlib.import_module(module), found)()
        assert bench.name == name and list(bench.rates) == list(bench.settings)


def test_confidences_are_read_as_stated():
    q, c = get_confidences({"confidence": [None, 0.3], "right": [1.0, 0.0]})
    assert q.tolist() == [0.0, 0.3] and c.tolist() == [1.0, 0.0]


@pytest.mark.slow
def test_two_arms_for_a_few_steps(tmp_path: Path, capsys: pytest.CaptureFixture):
    asked = [
        "calibration",
        "--arms",
        "brier",
        "critiques",
        "--seeds",
        "1",
        "--steps",
        "6",
        "--workers",
        "1",
        "--out",
        str(tmp_path),
    ]
    assert main(asked) == 0
    shown = capsys.readouterr().out
    assert "1 seeds x 2048 held-out prompts" in shown and "AUROC brier" in shown
    content = json.loads((tmp_path / "calibration.json").read_text())
    assert [row["arm"] for row in content["levels"]] == [BASE, "brier", "critiques", "oracle"]
    for run in content["outcomes"]:
        assert len(run["right"]) == len(run["confidence"]) == 2048
        assert sum(value is None for value in run["confidence"]) < 200  # nearly every answer states one
    numbers = {row["arm"]: row["numbers"] for row in content["levels"]}
    assert (
        numbers["critiques"]["stated"]["mean"] > numbers["brier"]["stated"]["mean"]
    )  # a sure teacher teaches its confidence
    assert (tmp_path / "calibration.png").stat().st_size > 10_000
    assert "| oracle |" in (tmp_path / "calibration.md").read_text()
    assert main(asked) == 0, "finished jobs are read, not run again"
