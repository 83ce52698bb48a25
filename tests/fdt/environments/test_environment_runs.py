"""Runs against environments: each shipped task trains two steps of a tiny model, and what it leaves adds up."""

import json
from pathlib import Path

import pytest
import yaml

from tests.helpers.runs import ROOT, fdt, quick
from tests.helpers.tiny import save_model, save_rows

pytestmark = pytest.mark.slow
TASKS = ("frozenlake", "search", "retry", "tools", "tictactoe", "reasoning_gym")
FSDP2 = ROOT / "configs" / "trainer" / "fsdp2.yaml"


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    save_model(folder / "model")
    save_rows(folder / "rows.jsonl")
    return folder


def small(name: str, base: Path, root: Path, terms: dict | None = None, **data) -> Path:
    """A shipped task, cut down to a tiny model and few short episodes."""
    content = yaml.safe_load((ROOT / "configs" / "task" / f"{name}.yaml").read_text())
    content["trainer"] |= {
        "default_root_dir": str(root),
        "max_steps": 2,
        "accelerator": "cpu",
        "devices": 1,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    # In float32, whatever this machine is fast in: a bfloat16 engine and trainer lie a few thousandths apart.
    content["model"] |= {"base": str(base / "model"), "lora": {"rank": 4}, "dtype": "float32"}
    content["model"] |= {"terms": terms} if terms else {}
    held = content["data"]
    held["limits"] = held.get("limits", {}) | {"tasks": 4, "heldout": 2, "max_turns": 3}
    held["engine"]["init_args"]["max_new_tokens"] = 5
    held["source"]["init_args"] = {"prompts_per_rollout": 2, "num_generations": 2}
    if "file" in held:
        held |= {"file": str(base / "rows.jsonl"), "heldout": 0.34}
    held |= data
    path = root.parent / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def measured(root: Path) -> list[dict]:
    return [json.loads(line) for line in (root / "eval" / "last.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", TASKS)
def test_each_task_trains_two_steps(name, base, tmp_path):
    root = tmp_path / "run"
    done = quick("fit", "-c", small(name, base, root))
    assert done.returncode == 0, done.stderr[-3000:]
    account = json.loads((root / "accounting.json").read_text())
    assert account["rows"] == sum(account["used"].values()) + sum(account["dropped"].values()) > 0
    records = measured(root)
    assert records and all(record["score"] is not None for record in records)
    if name in ("frozenlake", "search", "retry"):  # a random model's turns lead to no early end
        assert all(record["turns"] > 1 and record["ended"] for record in records)
        header, *rows = (root / "metrics" / "version_0" / "metrics.csv").read_text().splitlines()
        names = header.split(",")
        steps = [dict(zip(names, row.split(","), strict=True)) for row in rows]
        gaps = [
            float(step["train/sampling/logp_difference"]) for step in steps if step["train/sampling/logp_difference"]
        ]
        assert len(gaps) == 2 and max(gaps) < 1e-3
        turns = [float(step["train/completions/turns"]) for step in steps if step["train/completions/turns"]]
        assert len(turns) == 2 and all(1 < turn <= 3 for turn in turns)


def test_two_sharded_ranks_play_episodes_of_unequal_length(base, tmp_path):
    """A rank whose episodes are over goes on generating for nobody; nobody waits for ever."""
    root = tmp_path / "run"
    limits = {"tasks": 4, "heldout": 3, "max_turns": 4, "max_context": 900}
    path = small("frozenlake", base, root, limits=limits)
    done = fdt("fit", "-c", path, "-c", FSDP2, "--trainer.devices=2", timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(measured(root)) == 3


def test_held_out_episodes_are_tested_on_tasks_of_their_own(base, tmp_path):
    root = tmp_path / "run"
    path = small("frozenlake", base, root)
    assert quick("fit", "-c", path).returncode == 0
    done = quick("test", "-c", path, "--ckpt_path", "last")
    assert done.returncode == 0, done.stderr[-3000:]
    tested = [json.loads(line) for line in (root / "eval" / "test.jsonl").read_text().splitlines()]
    assert len(tested) == 2 and not {r["id"] for r in tested} & {r["id"] for r in measured(root)}


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"environment": None}, ["data.file"]),
        ({"source": {"class_path": "fdt.rollout.sources.Replay"}}, ["data.file"]),
        (
            {"engine": {"class_path": "fdt.engines.HuggingFace", "init_args": {"temperature": 0.7}}},
            ["0.7", "TruncatedIS"],
        ),
        ({"environment": {"class_path": "fdt.environments.tools.Tools"}, "grader": None}, ["data.grader"]),
        ({"terms": {"policy": {"class_path": "objectives.PlanningGradient"}}}, ["planning"]),
    ],
)
def test_what_cannot_work_is_refused(base, tmp_path, changes, words):
    done = quick("fit", "-c", small("frozenlake", base, tmp_path / "run", **changes))
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr[-2000:]
    assert all(word in done.stderr for word in words), done.stderr[-2000:]
