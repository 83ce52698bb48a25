"""The bench: its arithmetic by hand, its jobs, and two arms run for ten steps by the real trainer."""

from __future__ import annotations

import json
from math import inf, isnan, sqrt
from pathlib import Path

import numpy as np
import pytest

from fdt.bench import BENCHES
from fdt.bench.base import BASE, TUNING_SEED, Bench, build_measuring_jobs, build_tuning_jobs, choose_best_rates
from fdt.bench.compare import Difference, Result, compute_differences, compute_levels, count_rollouts_to
from fdt.bench.credit import COURSE, END, AdvantageBench, get_heldout
from fdt.bench.emphasis import Emphasis
from fdt.bench.show import as_markdown, build_tables, format_setting
from fdt.bench.signals import GRID, Job, Signals, smooth_curve
from fdt.environments.conventions import Conventions
from fdt.statistics.intervals import Interval
from fdt.statistics.nested import compute_nested_interval
from feedback.types import Episode, Task, Turn
from tests.helpers.paths import ROOT

SIGNALS = Signals()
CREDIT = AdvantageBench()
EMPHASIS = Emphasis()

SAMPLED = {
    name: [
        Episode(f"{name}-{n}", Task(f"{name}-{n}", ({"role": "user", "content": "go"},)), (Turn("assistant", "on"),))
        for n in range(2)
    ]
    for name in ("first", "second")
}


def outcome(
    arm: str, right: list[float], seed: int = 0, steps: list[int] | None = None, setting: str = "headline"
) -> dict:
    """Prompts of all users in turn; steps of ten rollouts with so many right ones."""
    users = list(Conventions().habits)
    return {
        "job": Job(setting, arm, seed, 0.0 if arm == BASE else 1e-3).to_dict(),
        "right": right,
        "prompts": [f"{users[n % 8]}-{n:04d}" for n in range(len(right))],
        "steps": [{"rollouts": 10, "right": count, "tokens": {"sampled": 50}} for count in steps or []],
        "seconds": 1.0,
    }


def test_one_seed_is_the_bootstrap_over_prompts():
    # 400 coins, half of them heads: standard error sqrt(0.25 / 400) = 0.025, so the interval is 0.5 ± 1.96 · 0.025.
    found = compute_nested_interval([[0.0, 1.0] * 200])
    assert found.mean == 0.5
    assert found.low == pytest.approx(0.451, abs=0.004) and found.high == pytest.approx(0.549, abs=0.004)


def test_seeds_that_disagree_widen_the_interval():
    # Two seeds, all right and all wrong: a resample holds 0, 1 or 2 of the right one, so the interval is [0, 1].
    found = compute_nested_interval([np.ones(1000), np.zeros(1000)])
    assert (found.mean, found.low, found.high) == (0.5, 0.0, 1.0)


def test_both_sources_add_up():
    # Many seeds around 0.5 with spread 0.1, 100 prompts each: variance of the mean (0.01 + 0.24 / 100) / 50 and, since
    # each seed's own mean already holds its prompts' chance, that chance counts once more in the second stage.
    rng = np.random.default_rng(1)
    seeds = [(rng.random(100) < p).astype(float) for p in np.clip(rng.normal(0.5, 0.1, 50), 0, 1)]
    found = compute_nested_interval(seeds)
    spread = np.var([seed.mean() for seed in seeds]) / 50 + 0.24 / 100 / 50
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * sqrt(spread), rel=0.1)


def test_values_that_are_none_are_refused():
    for values in ([], [[]], [[1.0, float("nan")]]):
        with pytest.raises(ValueError, match="at least one seed"):
            compute_nested_interval(values)


def test_a_learning_curve_by_hand():
    # Steps of ten rollouts with 0, 1, 2, 3, 4, 10 right; five steps together: 0, 1/20, 3/30, 6/40, 10/50, 20/50.
    run = outcome("scores", [1.0], steps=[0, 1, 2, 3, 4, 10])
    spent, right = smooth_curve(run)
    assert spent.tolist() == [10, 20, 30, 40, 50, 60]
    assert right.tolist() == pytest.approx([0, 0.05, 0.1, 0.15, 0.2, 0.4])
    assert count_rollouts_to(smooth_curve(run), 0.15) == 40 and count_rollouts_to(smooth_curve(run), 0.5) == inf
    assert isnan(count_rollouts_to(smooth_curve(run), float("nan")))


def test_rollouts_to_where_scores_alone_ended():
    found = [
        outcome("scores", [0.0, 1.0], steps=[0, 0, 2, 2, 2]),
        outcome("critiques", [1.0, 1.0], steps=[1, 5, 5, 5, 5]),
    ]
    rows = {row.arm: row for row in compute_levels(SIGNALS, found, "headline")}
    assert rows["scores"].rollouts_to_baseline == [50.0]  # 6 / 50 at the end, not before
    assert rows["critiques"].rollouts_to_baseline == [20.0]  # 1 / 10, then 6 / 20
    assert rows["critiques"].rollouts == 50 and rows["critiques"].tokens == {"sampled": 250}


def test_differences_pair_prompts_and_seeds():
    found = [
        outcome("scores", [0, 0, 1, 1], 0),
        outcome("critiques", [1, 0, 1, 1], 0),
        outcome("critiques", [0, 0, 0, 0], 1),
    ]
    (every, _) = compute_differences(SIGNALS, found, "headline")
    assert (every.arm, every.baseline, every.measure) == ("critiques", "scores", "all")
    assert every.value.mean == 0.25  # of seed 0 alone: scores have no seed 1


def test_covered_prompts_are_those_of_users_who_criticise():
    vocal = Conventions(coverage=0.6).critiquing_users
    users = list(Conventions().habits)
    right = [float(users[n % 8] in vocal) for n in range(32)]
    found = [outcome("scores", [0.0] * 32), outcome("critiques", right)]
    every, covered = compute_differences(SIGNALS, found, "headline")
    assert every.value.mean == pytest.approx(5 / 8) and covered.measure == "covered" and covered.value.mean == 1.0


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.01, 0.05, "better"),
        (-0.019, 0.05, "at least as good"),
        (-0.02, 0.05, "undecided"),
        (-0.05, -0.01, "worse"),
        (-0.01, -0.001, "worse"),
        (float("nan"), float("nan"), "undecided"),
    ],
)
def test_verdicts(low: float, high: float, verdict: str):
    assert Difference("headline", "both", "scores", "all", Interval((low + high) / 2, low, high)).verdict == verdict


def test_the_guard_falls_when_shuffled_critiques_teach():
    for right, fallen in (([1.0] * 90 + [0.0] * 10, 1), ([1.0] * 10 + [0.0] * 90, 0)):
        found = [outcome(BASE, [1.0] * 12 + [0.0] * 88), outcome("shuffled", right)]
        assert len(Result(SIGNALS, found).failures) == fallen


@pytest.mark.parametrize("bench", [SIGNALS, CREDIT, EMPHASIS], ids=lambda bench: bench.name)
def test_every_arm_is_tuned_over_the_same_grid_on_a_seed_of_its_own(bench: Bench):
    settings = list(bench.settings)
    jobs = build_tuning_jobs(bench, settings, bench.arms, 0)
    tried: dict[tuple[str, str], list[float]] = {}
    for job in jobs:
        tried.setdefault((job.setting, job.arm), []).append(job.rate)
    assert all(rates == list(bench.grid) for rates in tried.values())
    assert {job.seed for job in jobs} == {TUNING_SEED}
    run = build_measuring_jobs(bench, settings, bench.arms, bench.rates, 5, 0)
    assert TUNING_SEED not in {job.seed for job in run}
    assert {(job.setting, job.arm) for job in run if job.arm != BASE} == set(tried)
    assert all(rate in bench.grid for rates in bench.rates.values() for rate in rates.values())


@pytest.mark.parametrize(
    "arm, setting, same",
    [
        ("scores_moments", "noisy", "headline"),  # a score does not depend on who criticises
        ("scores_moments", "sparse", "sparse"),
        ("critiques_moments", "sparse", "headline"),  # a critique does not depend on who is scored
        ("critiques_moments", "noisy", "noisy"),
        ("dspo", "sparse", "sparse"),
        (BASE, "sparse", "headline"),
        (BASE, "users16", "users16"),
    ],
)
def test_settings_that_change_nothing_of_an_arm_share_its_run(arm: str, setting: str, same: str):
    assert SIGNALS.find_equal(SIGNALS.job(setting, arm, 3, 0.5)) == SIGNALS.job(same, arm, 3, 0.5)


def test_the_best_rate_is_the_lowest_of_equals():
    found = [outcome("scores", [right], TUNING_SEED) for right in (0.0, 1.0, 1.0)]
    for run, rate in zip(found, GRID[:3], strict=True):
        run["job"]["rate"] = rate
    assert choose_best_rates(found) == {"headline": {"scores": GRID[1]}}


@pytest.mark.parametrize("bench", [SIGNALS, CREDIT, EMPHASIS], ids=lambda bench: bench.name)
def test_every_arm_of_a_bench_is_an_arm_of_its_config(bench: Bench):
    import yaml

    from fdt.resources import resolve

    arms = yaml.safe_load(resolve(bench.job.config).read_text(encoding="utf-8"))["arms"]
    assert tuple(arms) == bench.arms
    assert {arm for pairs in bench.pairs.values() for pair in pairs for arm in pair} <= {BASE, *bench.arms}
    assert bench.name in BENCHES and bench.baseline in bench.arms


def test_weight_on_every_token_is_weight_on_plans_and_on_execution():
    """The control of HICRA must cover what the two masks cover, or it would control for less."""
    import yaml

    from fdt.data.markers import Pattern
    from fdt.resources import resolve

    arms = yaml.safe_load(resolve(EMPHASIS.job.config).read_text(encoding="utf-8"))["arms"]
    markers = {
        arm: Pattern(**arms[arm]["data"]["marker"]["init_args"]) for arm in ("planning", "execution", "wins", "losses")
    }
    places = {
        arm: [(item.start, item.end) for item in marker.find_spans("reversed: 2413")] for arm, marker in markers.items()
    }
    assert places == {"planning": [(0, 8)], "execution": [(10, 14)], "wins": [(0, 14)], "losses": [(0, 14)]}
    terms = {arm: arms[arm]["model"]["terms"]["policy"] for arm in markers}
    assert {term["class_path"] for term in terms.values()} == {"objectives.PlanningGradient"}
    given = {arm: term["init_args"] for arm, term in terms.items()}
    assert given["planning"] == given["execution"] == given["wins"]
    assert given["losses"] == given["wins"] | {"alpha": -0.2}


def test_a_rollout_that_is_learned_from_twice_is_counted_once():
    import torch

    from fdt.bench.recorder import JobRecorder
    from fdt.data.collate import Collator
    from fdt.learner import Learner
    from fdt.metrics.step import StepMetrics
    from tests.helpers.tiny import tokenizer

    recorder, learner, collator = JobRecorder(lambda episode: True), Learner(), Collator(tokenizer())
    for name in ("first", "first", "second"):
        batch = collator(SAMPLED[name], torch.zeros(2))
        recorder.on_train_batch_end(None, learner, {"metrics": StepMetrics(batch, {})}, None, 0)
    assert [step["rollouts"] for step in recorder.steps] == [2, 0, 2]
    assert [step["right"] for step in recorder.steps] == [2, 0, 2]


def walked(arm: str, verdicts: list[list[float]], seed: int = 0) -> dict:
    """A run on the lake: verdicts over held-out maps before the first step and after each second one of 64 episodes."""
    return {
        "job": CREDIT.job("goal", arm, seed, 0.0 if arm == BASE else 1e-3).to_dict(),
        "right": verdicts[-1],
        "prompts": [f"lake-{n}" for n in range(len(verdicts[0]))],
        "steps": [] if arm == BASE else [{"rollouts": 64, "right": 1, "tokens": {}}] * (2 * len(verdicts) - 2),
        "heldout": [] if arm == BASE else [{"step": 2 * n, "right": right} for n, right in enumerate(verdicts)],
        "seconds": 1.0,
    }


def test_held_out_maps_make_the_curve_of_the_lake():
    whole = walked("whole", [[0, 0, 0, 1], [0, 1, 0, 1], [1, 1, 0, 1]])
    last = walked("last", [[0, 0, 0, 1], [0, 0, 0, 1], [0, 1, 0, 1]])
    spent, shares = CREDIT.compute_curve(whole)
    assert spent.tolist() == [0, 128, 256] and shares.tolist() == [0.25, 0.5, 0.75]
    # Over the run, the first measurement left out: whole (.5 + .75) / 2 = .625, last (.25 + .5) / 2 = .375.
    gaps = compute_differences(CREDIT, [whole, last], "goal")
    found = {(gap.measure, gap.arm, gap.baseline): gap.value.mean for gap in gaps}
    assert found == {(END, "whole", "last"): 0.25, (COURSE, "whole", "last"): 0.25}
    rows = {row.arm: row for row in compute_levels(CREDIT, [whole, last], "goal")}
    assert rows["whole"].rollouts_to_baseline == [128.0] and rows["last"].rollouts_to_baseline == [256.0]
    low, high = CREDIT.compute_band([whole])
    assert (low <= shares).all() and (shares <= high).all() and low[0] < 0.25 < high[0]


def test_tables_name_what_they_hold():
    found = Result(
        CREDIT, [walked(BASE, [[0, 1]]), walked("last", [[0, 1], [1, 1]]), walked("whole", [[0, 0], [0, 1]])]
    )
    assert [row.arm for row in found.levels] == [BASE, "whole", "last"]
    heading, lines = build_tables(found)[2]
    assert heading == ("setting", "arm", "step 0", "step 2")
    assert lines[0][:2] == ["goal", "whole"] and [cell.split()[0] for cell in lines[1][2:]] == ["50", "100"]
    assert "| goal | whole | 50.0 [" in as_markdown(found) and "goal: reward reward_goal" in as_markdown(found)
    assert get_heldout(found.outcomes[1])[1].shape == (2, 2)
    alone = Result(CREDIT, [walked("whole", [[0, 0], [0, 1]])])
    assert build_tables(alone)[0][1][0][3] == "", "without the baseline nobody knows where it ended"


def test_workers_of_a_killed_bench_end_with_it(tmp_path: Path):
    """Killed so that it can tidy nothing up; its worker would have slept for a minute."""
    import os
    import signal
    import subprocess
    import sys
    import time

    script = tmp_path / "parent.py"
    script.write_text(
        "import multiprocessing, os, time\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "from fdt.bench.work import follow_parent\n"
        "if __name__ == '__main__':\n"
        "    pool = ProcessPoolExecutor(1, multiprocessing.get_context('spawn'), initializer=follow_parent)\n"
        "    print(pool.submit(os.getpid).result(), flush=True)\n"
        "    pool.submit(time.sleep, 60)\n"
        "    time.sleep(60)\n"
    )
    path = os.pathsep.join([str(ROOT), *sys.path])
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": path}
    ) as parent:
        worker = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    for _ in range(200):
        if gone(worker):
            break
        time.sleep(0.1)
    else:
        os.kill(worker, signal.SIGKILL)
        pytest.fail("the worker outlived its bench")


def gone(process: int) -> bool:
    """Whether it has ended; where nobody collects orphans, it stays as a zombie."""
    import os

    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    state = Path(f"/proc/{process}/stat")
    return state.is_file() and state.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.slow
def test_two_arms_for_ten_steps(tmp_path: Path, capsys: pytest.CaptureFixture):
    from fdt.bench import main

    asked = [
        "signals",
        "--arms",
        "scores",
        "critiques",
        "--settings",
        "headline",
        "--seeds",
        "1",
        "--steps",
        "10",
        "--workers",
        "1",
        "--out",
        str(tmp_path),
    ]
    assert main(asked) == 0
    shown = capsys.readouterr().out
    assert "scores" in shown and "1 seeds x 1024 held-out prompts" in shown
    content = json.loads((tmp_path / "signals.json").read_text())
    assert {row["arm"] for row in content["levels"]} == {BASE, "scores", "critiques"}
    for run in content["outcomes"]:
        assert len(run["right"]) == 1024
        assert len(run["steps"]) == (0 if run["job"]["arm"] == BASE else 10)
        assert all(step["rollouts"] == 128 for step in run["steps"])
    by_arm = {run["job"]["arm"]: run for run in content["outcomes"]}
    counted = {arm: set(by_arm[arm]["steps"][0]["tokens"]) for arm in ("scores", "critiques")}
    assert counted == {"scores": {"sampled", "policy"}, "critiques": {"sampled", "distill"}}
    assert sum(by_arm["critiques"]["right"]) > sum(by_arm[BASE]["right"])  # ten steps of critiques already teach
    assert (tmp_path / "signals.png").stat().st_size > 10_000 and "| headline |" in (
        tmp_path / "signals.md"
    ).read_text()
    assert main(asked) == 0, "finished jobs are read, not run again"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.25, "0.25"), (8, "8"), ("fdt.environments.Sums", "Sums"), ({"min_terms": 2}, "{'min_terms': 2}"), ([1], "[1]")],
)
def test_settings_of_any_kind_are_shown(value, shown):
    """A bench whose settings hold a mapping ended in a traceback after all its runs."""
    assert format_setting(value) == shown
