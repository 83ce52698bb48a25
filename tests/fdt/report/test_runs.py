"""Run folders are read whole where they are whole, and passed over line by line where a kill cut them short."""

import csv
import json
import os

import numpy as np
import pytest

from fdt.errors import UserError
from fdt.report.runs import find_runs, gather_runs, read_run
from tests.helpers.run_folder import PROMPTS, STEPS, answers, write_arm, write_lines


def test_finds_every_arm_and_takes_an_arm_for_a_root(root):
    assert [run.name for run in find_runs(root)] == ["on-policy", "replay"]
    assert [run.name for run in find_runs(root / "replay")] == ["replay"]


def test_other_folders_beside_the_arms_are_no_arms(root):
    (root / "figures").mkdir()
    (root / "half").mkdir()
    (root / "half" / "config.yaml").write_text("{}")
    assert len(find_runs(root)) == 2


def test_arms_come_in_the_order_they_were_started_and_former_runs_stay_out(root):
    write_arm(root / "replay.old1")
    for seconds, name in enumerate(("replay", "on-policy", "replay.old1"), 1):
        os.utime(root / name / "config.yaml", (seconds, seconds))
    assert [run.name for run in find_runs(root)] == ["replay", "on-policy"]
    assert [run.name for run in find_runs(root / "replay.old1")] == ["replay.old1"]


def test_missing_folder_and_empty_folder_are_told_apart(tmp_path):
    with pytest.raises(UserError, match="no such run folder"):
        find_runs(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"no run in this folder.*config\.yaml"):
        find_runs(tmp_path)


def test_later_version_overrides_the_steps_it_repeats(root):
    run = find_runs(root)[0]
    steps, reward = run.get_series("train/reward/mean")
    assert steps.tolist() == list(range(STEPS))
    with (run.folder / "metrics/version_1/metrics.csv").open() as file:
        resumed = next(csv.DictReader(file))
    assert reward[6] == float(resumed["train/reward/mean"])
    # A repeated step is replaced whole: what was measured after its first form is gone with it.
    assert run.get_series("val/score")[0].tolist() == [11]
    assert len(run.get_series("train/never")[0]) == 0


def test_version_ten_comes_after_version_two(tmp_path):
    arm = write_arm(tmp_path / "arm")
    for version, value in ((2, 0.2), (10, 1.0)):
        (arm / f"metrics/version_{version}").mkdir()
        (arm / f"metrics/version_{version}/metrics.csv").write_text(f"step,train/reward/mean\n3,{value}\n")
    assert read_run(arm).get_series("train/reward/mean")[1][3] == 1.0


def test_half_written_lines_are_reported_and_passed_over(root):
    run = find_runs(root)[0]
    assert len(list(run.read_transcripts())) == (STEPS + 2) * 4
    assert len(list(run.read_transcripts())) == (STEPS + 2) * 4
    halves = [problem for problem in run.problems if "half-written last line" in problem]
    assert [half.split(": ")[0].removeprefix(str(run.folder)) for half in halves] == [
        "/metrics/version_0/metrics.csv:11",
        f"/transcripts.jsonl:{(STEPS + 2) * 4 + 1}",
    ]


def test_a_broken_line_in_the_middle_names_its_place(tmp_path):
    arm = write_arm(tmp_path / "arm")
    lines = [json.dumps(record) for record in answers([1.0, 0.0])]
    (arm / "eval/last.jsonl").write_text(f"{lines[0]}\n{{broken\n[1, 2]\n\n{lines[1]}\n")
    run = read_run(arm)
    assert [record["id"] for record in run.evals["last"]] == ["q0", "q1"]
    assert any("last.jsonl:2: not JSON" in problem for problem in run.problems)
    assert any("last.jsonl:3: got list, expected an object" in problem for problem in run.problems)


@pytest.mark.parametrize("name", ["metrics", "transcripts.jsonl", "accounting.json", "eval/last.jsonl"])
def test_what_is_missing_is_a_problem_and_no_failure(tmp_path, name):
    arm = write_arm(tmp_path / "arm")
    (arm / name).rename(tmp_path / "away")
    run = read_run(arm)
    assert any(name in problem for problem in run.problems)
    assert len(run.evals["base"]) == PROMPTS


@pytest.mark.parametrize("name", ["config.yaml", "accounting.json", "eval/last.jsonl", "transcripts.jsonl"])
@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00{", b"[1, 2]\n", b"[" * 100_000, b"a: b: c\n"])
def test_no_content_makes_reading_fail(tmp_path, name, content):
    arm = write_arm(tmp_path / "arm")
    (arm / name).write_bytes(content)
    run = read_run(arm)
    assert list(run.read_transcripts()) is not None
    assert isinstance(run.config, dict)
    assert isinstance(run.accounting, dict)


def test_a_number_cut_in_half_is_not_taken_for_a_number(tmp_path):
    arm = write_arm(tmp_path / "arm")
    (arm / "metrics/version_1/metrics.csv").write_text("step,train/reward/mean\n0,0.5\n1,0.12")
    assert read_run(arm).get_series("train/reward/mean")[1][:2].tolist() != [0.5, 0.12]


def test_arms_of_one_name_are_told_apart_by_their_folders(tmp_path):
    for folder in ("monday", "tuesday"):
        write_arm(tmp_path / folder / "both")
    names = [run.name for run in gather_runs([tmp_path / "monday", tmp_path / "tuesday"])]
    assert names == ["monday/both", "tuesday/both"]
    names = [run.name for run in gather_runs([tmp_path / "monday/both", tmp_path / "tuesday/both"])]
    assert names == ["monday/both", "tuesday/both"]
    assert len({run.name for run in gather_runs([tmp_path / "monday", tmp_path / "monday"])}) == 2


def test_records_reach_the_run_as_written(tmp_path):
    arm = write_arm(tmp_path / "arm")
    write_lines(arm / "eval/extra.jsonl", [{"id": 1, "score": float("nan")}])
    assert np.isnan(read_run(arm).evals["extra"][0]["score"])
