"""The transfer bench: its arithmetic by hand, its jobs, what it refuses, and the whole of it on two kinds of prompt."""

import json

import pytest
import yaml

from fdt.bench import main
from fdt.bench.base import TUNING_SEED
from fdt.bench.transfer.jobs import TransferJob, build_order_jobs, build_single_jobs, read_scores
from fdt.bench.transfer.results import MEAN, Measured, build_matrix, build_summary, compute_gaps, write_tables
from fdt.errors import UserError
from fdt.resources import resolve
from fdt.rollout.curricula.transfer import find_best_order, predict_finals, read_matrix


def scores(a: list[float], b: list[float]) -> dict[str, dict[str, float]]:
    return {name: {f"{name}{n}": score for n, score in enumerate(own)} for name, own in (("a", a), ("b", b))}


START = scores([0.0, 0.5], [0.0, 0.0, 1.0, 0.0])
SINGLES = {
    "a": [Measured(START, scores([1.0, 0.5], [0.0, 0.0, 1.0, 1.0]))],
    "b": [Measured(START, scores([0.0, 0.0], [1.0, 1.0, 1.0, 0.0]))],
}


def test_a_matrix_by_hand():
    matrix, changes = build_matrix(SINGLES)
    assert matrix.start == {"a": 0.25, "b": 0.25} and matrix.saturation == {"a": 0.75, "b": 0.75}
    # Training on a answers one more of four b's; training on b loses half a point of two on a.
    assert matrix.transfer == {"a": {"b": 0.25}, "b": {"a": -0.25}}
    assert changes["a"]["a"].mean == 0.5 and changes["b"]["b"].mean == 0.5
    assert find_best_order(matrix, ["a", "b"]) == ("b", "a")
    assert predict_finals(matrix, ("b", "a")) == {"b": 1.0, "a": 0.75}


def test_gaps_are_paired_and_data_sets_count_alike():
    one, two = (
        Measured(START, after) for after in (scores([1.0, 1.0], [0.0] * 4), scores([0.0, 1.0], [0.0, 0.0, 1.0, 1.0]))
    )
    gaps = compute_gaps([one], [two])
    # a: +0.5 on two prompts, b: -0.5 on four; their mean is 0, where a mean over prompts would be -1/6.
    assert (gaps["a"].mean, gaps["b"].mean) == (0.5, -0.5) and gaps[MEAN].mean == pytest.approx(0.0, abs=1e-12)
    arms, stages = {"joint": [two], "ba": [one]}, {"joint": [["a", "b"]], "ba": [["b"], ["a"]]}
    text = write_tables(*build_matrix(SINGLES), arms, stages, "joint")
    assert "| b -> a | 75.0 | 100.0 | 87.5 |" in text and "| (score at the start) | 25.0 | 25.0 |" in text
    assert "| joint | a+b | 50.0 [0.0, 100.0] |" in text and "| ba | b -> a | 100.0" in text
    assert text.rstrip().endswith("| 87.5 |")  # predicted, beside what was measured
    summary = build_summary(arms, "joint")
    assert summary["ba"]["less joint"]["a"][0] == 0.5 and "less joint" not in summary["joint"]
    assert json.dumps(summary)


def test_orders_have_seeds_of_their_own_and_equal_rollouts():
    singles = build_single_jobs("x.yaml", ("a", "b"), 30, 2, "dataset")
    assert [job.seed for job in singles["a"]] == [TUNING_SEED, TUNING_SEED + 1] and singles["b"][0].stages == (("b",),)
    orders = build_order_jobs("x.yaml", {"joint": (("a", "b"),), "ba": (("b",), ("a",))}, 30, 2, "kind")
    assert [job.seed for job in orders["joint"]] == [0, 1]
    stages = [
        [(s["datasets"], s["rollouts"]) for s in curriculum["init_args"]["stages"]]
        for (override,) in (orders[arm][0].build_overrides() for arm in ("joint", "ba"))
        for curriculum in [override["data"]["source"]["init_args"]["curriculum"]]
        if curriculum["init_args"]["column"] == "kind"
    ]
    assert stages == [[(["a", "b"], 60)], [(["b"], 30), (["a"], 30)]]
    names = {job.name for jobs in [*singles.values(), *orders.values()] for job in jobs}
    assert len(names) == 8 and TransferJob("x.yaml", (("a",),), 31, 0).name not in names


def test_held_out_prompts_without_a_data_set_are_told(tmp_path):
    (tmp_path / "eval").mkdir()
    lines = [
        {"id": "1", "score": 0.5, "dataset": "a"},
        {"id": "2", "score": None, "dataset": "b"},
        {"id": "3", "score": 1},
    ]
    (tmp_path / "eval" / "last.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read_scores(tmp_path, "last", ("a",)) == {"a": {"1": 0.5}}
    with pytest.raises(UserError, match="got 'none of b', expected some of each"):
        read_scores(tmp_path, "last", ("a", "b"))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--config", "mine.yaml"], "--datasets: got 'none', expected the names"),
        (["--datasets", "a"], "got 'a', expected two or more, each once"),
        (["--datasets", "a", "a"], "got 'a a'"),
        (["--rollouts", "0"], "got 'rollouts 0, seeds 3, workers 2', expected at least 1"),
        (["--orders", "lists,names"], "got 'lists,names', expected each of lists, names, ascents once"),
    ],
)
def test_what_it_refuses(arguments, message, tmp_path):
    with pytest.raises(UserError, match=message):
        main(["transfer", "--out", str(tmp_path), *arguments])
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_matrix_and_orders_of_two_kinds_of_prompt(tmp_path, capsys):
    content = yaml.safe_load(resolve("task/three_kinds").read_text())
    content["data"]["limits"] = {"tasks": 48, "heldout": 16, "max_turns": 1}
    config = tmp_path / "two.yaml"
    config.write_text(yaml.safe_dump(content))
    out = tmp_path / "out"
    arguments = [
        "transfer",
        "--config",
        str(config),
        "--datasets",
        "names",
        "ascents",
        "--rollouts",
        "2",
        "--seeds",
        "1",
    ]
    assert main([*arguments, "--workers", "1", "--out", str(out)]) == 0
    matrix = read_matrix(out / "matrix.json")
    assert set(matrix.saturation) == {"names", "ascents"} and set(matrix.transfer["names"]) == {"ascents"}
    best = find_best_order(matrix, ["names", "ascents"])
    found = json.loads((out / "transfer.json").read_text())
    assert found["stages"]["predicted"] == [[name] for name in best]
    assert found["stages"]["reversed"] == [[name] for name in best[::-1]]
    assert set(found["arms"]["predicted"]["ends"]) == {"names", "ascents", MEAN}
    # Each run is one of the bench's: two stages of two rollouts, measured on what it trained on and on the rest.
    folder = out / build_order_jobs(str(config), {"x": ((best[0],), (best[1],))}, 2, 1, "dataset")["x"][0].name
    assert max(json.loads(line)["step"] for line in (folder / "transcripts.jsonl").open()) == 4
    # Asked again, nothing is run again.
    before = (folder / "outcome.json").stat().st_mtime_ns
    capsys.readouterr()
    assert main([*arguments, "--workers", "1", "--out", str(out)]) == 0
    assert (folder / "outcome.json").stat().st_mtime_ns == before and "| predicted |" in capsys.readouterr().out
