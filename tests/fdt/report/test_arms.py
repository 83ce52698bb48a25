"""Arms over seeds: who belongs together, and differences worked by hand."""

import pytest
import yaml

from fdt.report import main
from fdt.report.arms import group_arms
from fdt.report.panels.comparison import compare_arms
from fdt.report.runs import gather_runs, read_run
from tests.helpers.run_folder import answers, write_lines


def write_run(folder, seed: int, lr: float, after: list[float], text: str = "The sum is {n}."):
    folder.mkdir(parents=True)
    config = {"seed_everything": 0, "data": {"seed": seed}, "model": {"lr": lr, "seed": seed}}
    config["trainer"] = {"default_root_dir": str(folder)}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    write_lines(folder / "eval/base.jsonl", answers([0.0] * len(after)))
    write_lines(folder / "eval/last.jsonl", answers(after, text))
    return folder


@pytest.fixture
def root(tmp_path):
    write_run(tmp_path / "fast-s1", 1, 0.1, [1.0, 1.0, 1.0, 0.0])
    write_run(tmp_path / "fast-s2", 2, 0.1, [1.0, 1.0, 0.0, 0.0])
    write_run(tmp_path / "slow-s1", 1, 0.2, [0.0, 1.0, 0.0, 0.0])
    write_run(tmp_path / "slow-s2", 2, 0.2, [0.0, 0.0, 1.0, 0.0])
    return tmp_path


def test_runs_that_differ_in_a_seed_alone_are_one_arm(root):
    arms = group_arms(gather_runs([root]))
    assert [(arm.name, arm.seeds, len(arm.runs)) for arm in arms] == [("fast", ["1", "2"], 2), ("slow", ["1", "2"], 2)]


def test_arms_of_one_name_in_several_folders_are_named_by_it(tmp_path):
    runs = gather_runs([write_run(tmp_path / f"s{n}" / "mix", n, 0.1, [1.0]) for n in (1, 2)])
    assert [arm.name for arm in group_arms(runs)] == ["mix"]


def test_differences_are_paired_by_seed_and_prompt(root):
    found = compare_arms(group_arms(gather_runs([root])))
    # fast: 75 and 50 % right, slow: 25 and 25 %; differences 50 and 25 points
    assert [level.after.mean for level in found.levels] == [62.5, 25.0]
    assert [level.change.mean for level in found.levels] == [62.5, 25.0]
    (difference,) = found.differences
    assert (difference.arm, difference.other, difference.seeds, difference.prompts) == ("fast", "slow", 2, 4)
    assert difference.value.mean == 37.5
    assert difference.value.low < 37.5 < difference.value.high


def test_seeds_that_answered_alike_are_named(tmp_path):
    for seed in (1, 2):
        write_run(tmp_path / f"run-{seed}", seed, 0.1, [1.0, 0.0])
    (note,) = compare_arms(group_arms(gather_runs([tmp_path]))).notes
    assert "seeds 1 and 2 answered alike throughout" in note


def test_one_run_is_compared_with_nothing(tmp_path):
    run = read_run(write_run(tmp_path / "alone", 1, 0.1, [1.0]))
    assert compare_arms(group_arms([run])) is None


def test_compare_prints_arms_over_seeds(root, capsys):
    assert main(["compare", str(root)]) == 0
    printed = capsys.readouterr().out
    assert "fast − slow" in printed
    assert "+37.5 [" in printed


def test_a_seed_of_a_plug_parts_no_arm_and_a_nameless_one_has_its_folder_s_name(tmp_path):
    for arm, lr in (("quick", 0.1), ("slow", 0.2)):
        for seed in (1, 2):
            folder = write_run(tmp_path / arm / f"seed-{seed}", seed, lr, [1.0, seed - 1.0])
            config = yaml.safe_load((folder / "config.yaml").read_text())
            config["data"]["environment"] = {"init_args": {"world_seed": seed}}
            (folder / "config.yaml").write_text(yaml.safe_dump(config))
    arms = group_arms(gather_runs([tmp_path / "quick", tmp_path / "slow"]))
    assert [(arm.name, arm.seeds) for arm in arms] == [("quick", ["1", "2"]), ("slow", ["1", "2"])]


def test_the_name_of_an_arm_is_no_half_of_a_seed(tmp_path):
    for arm, lr in (("quick", 0.1), ("slow", 0.2)):
        for seed in (1000, 1001):
            write_run(tmp_path / arm / f"seed-{seed}", seed, lr, [1.0, 0.0])
    runs = [tmp_path / arm / f"seed-{seed}" for arm in ("quick", "slow") for seed in (1000, 1001)]
    assert [arm.name for arm in group_arms(gather_runs(runs))] == ["quick", "slow"]
    main(["report", *map(str, runs), "--out", str(tmp_path / "page.html")])
    page = " ".join((tmp_path / "page.html").read_text().split())
    assert "What 2 trained arms (4 runs) learned" in page and "2 seeds; 95 % interval" in page


def test_an_arm_without_a_base_has_its_level(root, tmp_path):
    for path in root.glob("fast-*/eval/base.jsonl"):
        path.unlink()
    fast, slow = compare_arms(group_arms(gather_runs([root]))).levels
    assert (fast.before, fast.after.mean, fast.change) == (None, 62.5, None)
    assert slow.change.mean == 25.0
    main(["report", str(root), "--out", str(tmp_path / "page.html")])
    assert "after training</span>: 62.5" in (tmp_path / "page.html").read_text()
