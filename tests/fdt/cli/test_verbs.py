"""validate, test and predict; configs that stack; arms; and every row of the file accounted for."""

import json
from pathlib import Path

import pytest
import yaml

from fdt.__main__ import main
from fdt.errors import UserError
from fdt.resources import list_configs, resolve
from tests.helpers.runs import ROOT, config, fdt, quick

pytestmark = pytest.mark.slow
LEAN = [{"class_path": "tests.helpers.probes.Lean"}]
FSDP2 = ROOT / "configs" / "trainer" / "fsdp2.yaml"
WRITTEN = {"validate": "eval/validate.jsonl", "test": "eval/test.jsonl", "predict": "predictions.jsonl"}


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.open(encoding="utf-8")]


def prompts(path: Path, count: int) -> str:
    rows = [{"id": f"h{n}", "prompt": f"{n} + 2?", "reference": f"{n + 2}"} for n in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with a short on-policy run: full weights, so that a checkpoint holds all; five held-out prompts."""
    folder = tmp_path_factory.mktemp("trained")
    path = config(folder, model__lora=None, trainer__max_steps=2, data__heldout=prompts(folder / "held.jsonl", 5))
    run = quick("fit", "-c", path, "--model.optimizer", "torch.optim.AdamW", "--model.optimizer.lr", "0.01")
    assert run.returncode == 0, run.stderr[-2000:]
    return folder


@pytest.fixture(scope="module")
def alone(trained) -> dict[str, list[dict]]:
    """What each verb wrote on one rank."""
    found = {}
    for verb, name in WRITTEN.items():
        path = config(trained, model__lora=None, data__heldout=str(trained / "held.jsonl"), trainer__callbacks=LEAN)
        run = quick(verb, "-c", path, "--ckpt_path", "last")
        assert run.returncode == 0, run.stderr[-2000:]
        assert "lean: True" in run.stdout
        found[verb] = lines(trained / "run" / name)
    return found


def test_each_prompt_is_measured_once_and_after_training(trained, alone):
    last = lines(trained / "run" / "eval" / "last.jsonl")
    base = lines(trained / "run" / "eval" / "base.jsonl")
    for records in alone.values():
        assert [r["prompt"] for r in records] == [f"{n} + 2?" for n in range(5)]
        assert [r["response"] for r in records] == [r["response"] for r in last]
        assert {"prompt", "response", "log_prob", "score"} <= set(records[0])
    assert [r["log_prob"] for r in base] != [r["log_prob"] for r in last]


@pytest.mark.parametrize("verb, strategy", [("validate", "ddp"), ("predict", "ddp"), ("test", "fsdp2")])
def test_two_ranks_lose_and_repeat_nothing(trained, alone, verb, strategy):
    path = config(trained, model__lora=None, data__heldout=str(trained / "held.jsonl"))
    chosen = ["-c", FSDP2] if strategy == "fsdp2" else ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
    run = fdt(verb, "-c", path, *chosen, "--ckpt_path", "last", timeout=600)
    assert run.returncode == 0, run.stderr[-2000:]
    both = lines(trained / "run" / WRITTEN[verb])
    assert [(r["prompt"], r["response"], r["score"]) for r in both] == [
        (r["prompt"], r["response"], r["score"]) for r in alone[verb]
    ]
    for one, two in zip(alone[verb], both, strict=True):
        assert two["log_prob"] == pytest.approx(one["log_prob"], rel=1e-4)


def printed(capfd, *arguments: object) -> dict:
    with pytest.raises(SystemExit) as end:
        main(["fit", *map(str, arguments), "--print_config"])
    assert end.value.code == 0
    return yaml.safe_load(capfd.readouterr().out)


def test_a_printed_config_is_the_config(capfd, tmp_path):
    first = printed(capfd, "-c", config(tmp_path))
    path = tmp_path / "printed.yaml"
    path.write_text(yaml.safe_dump(first))
    assert printed(capfd, "-c", path) == first


@pytest.mark.parametrize("name", list_configs())
def test_every_shipped_config_parses(capfd, name):
    # A task that names its terms stands alone: quickstart's coefficients belong to terms that it does not have.
    alone = name.startswith("task/") and "terms" in (yaml.safe_load(resolve(name).read_text()).get("model") or {})
    content = printed(capfd, *(() if alone else ("-c", "quickstart")), "-c", name)
    assert (content["data"]["file"] or content["data"]["environment"]) and content["model"]["terms"]


def test_later_configs_win_and_mappings_merge(capfd, tmp_path):
    over = tmp_path / "over.yaml"
    over.write_text("model: {lora: {rank: 2}}\ntrainer: {max_steps: 9}\n")
    merged = printed(capfd, "-c", config(tmp_path), "-c", over, "--trainer.max_steps", "11")
    assert merged["model"]["lora"]["rank"] == 2 and merged["model"]["warmup_steps"] == 0
    assert merged["trainer"]["max_steps"] == 11 and merged["trainer"]["max_epochs"] == -1


def test_arms_run_side_by_side_into_one_table(tmp_path):
    path = config(tmp_path, trainer__max_steps=1)
    content = yaml.safe_load(path.read_text()) | {
        "arms": {
            "fresh": {"trainer": {"max_steps": 2}},
            "recorded": {"data": {"source": {"class_path": "fdt.rollout.sources.Replay"}}},
        }
    }
    path.write_text(yaml.safe_dump(content))
    run = fdt("fit", "-c", path, timeout=600)
    assert run.returncode == 0, run.stderr[-2000:]
    root = tmp_path / "run"
    table = (root / "table.json").read_text()
    assert "fresh" in table and "recorded" in table and (root / "report.html").exists()
    assert lines(root / "fresh" / "eval" / "base.jsonl") == lines(root / "recorded" / "eval" / "base.jsonl")
    assert "fresh" in run.stdout and "recorded" in run.stdout


def odd_rows(path: Path) -> str:
    """Two answers a prompt to five prompts: plain, unscored, criticised, without any words, and one far too long."""
    rows = []
    for task in range(5):
        for n in range(2):
            row = {
                "id": f"r{task}-{n}",
                "task": f"t{task}",
                "prompt": f"{task}+1?",
                "response": "5" * (n + 1),
                "score": float(n),
                "reference": f"{task + 1}",
            }
            if task == 1:
                del row["score"]
            if task == 2:
                row["critique"] = "No."
            if task == 3:
                row["score"] = 1.0  # the same for both: no advantage
            if task == 4:
                row["response"] = "7" * 400
            rows.append(row)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def account(folder: Path) -> dict:
    found = json.loads((folder / "run" / "accounting.json").read_text())
    assert sum(found["used"].values()) + sum(found["dropped"].values()) == found["rows"] == 10
    return found


def test_every_row_of_a_replayed_file_is_accounted_for(tmp_path):
    settings = {
        "data__file": odd_rows(tmp_path / "odd.jsonl"),
        "data__heldout": prompts(tmp_path / "held.jsonl", 2),
        "data__max_tokens": 200,
        "trainer__max_steps": -1,
        "trainer__max_epochs": 1,
    }
    run = quick("fit", "-c", config(tmp_path, "replay", **settings))
    assert run.returncode == 0, run.stderr[-2000:]
    found = account(tmp_path)
    assert found["used"] == {"score": 2, "critique + score": 2}
    assert found["dropped"].pop("too long") == 2
    assert sum(found["dropped"].values()) == 4 and all("no signal" in reason for reason in found["dropped"])


def test_rows_that_were_not_reached_and_prompts_too_long(tmp_path):
    settings = {"data__file": odd_rows(tmp_path / "odd.jsonl"), "data__heldout": prompts(tmp_path / "held.jsonl", 2)}
    run = quick("fit", "-c", config(tmp_path, "replay", trainer__max_steps=1, **settings))
    assert run.returncode == 0, run.stderr[-2000:]
    assert account(tmp_path)["dropped"]["not reached (max_steps)"] == 6
    run = quick("fit", "-c", config(tmp_path, trainer__max_steps=3, data__max_tokens=20, **settings))
    assert run.returncode == 2 and "10 rows, the shortest of 24 tokens" in run.stderr


def test_a_prompt_that_stands_twice_among_the_held_out_ones_is_measured_twice(tmp_path):
    held = tmp_path / "held.jsonl"
    held.write_text("".join(json.dumps({"prompt": "1+1?", "reference": "2"}) + "\n" for _ in range(3)))
    run = quick("predict", "-c", config(tmp_path, data__heldout=str(held)))
    assert run.returncode == 0, run.stderr[-2000:]
    assert len(lines(tmp_path / "run" / "predictions.jsonl")) == 3


def test_some_arms_of_a_config_by_name(tmp_path: Path):
    from fdt.cli.run.arms import read_arms

    path = tmp_path / "three.yaml"
    path.write_text("arms: {one: {model: {seed: 1}}, two: {}, three: {}}\n")
    argv = ["fit", "-c", str(path)]
    assert list(read_arms(argv).overrides) == ["one", "two", "three"]
    assert read_arms([*argv, "--arms=[three, one]"]).overrides == {"three": {}, "one": {"model": {"seed": 1}}}
    assert read_arms([*argv, "--arms", "[two]"]).overrides == {"two": {}}
    assert read_arms([*argv, "--arms=null"]) is None
    for wrong in ("[four]", "[]"):
        with pytest.raises(UserError, match="one, two, three"):
            read_arms([*argv, f"--arms={wrong}"])
