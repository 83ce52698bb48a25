"""Two steps of a tiny model against an environment of another package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from tests.helpers.runs import quick
from tests.helpers.tiny import save_model


def two_steps(folder: Path, environment: dict[str, Any]) -> list[dict]:
    """Trains, checks that what was sampled is what was trained on, and returns the records of the held-out episodes."""
    save_model(folder / "model")
    content = {
        "trainer": {
            "default_root_dir": str(folder / "run"),
            "max_steps": 2,
            "max_epochs": -1,
            "accelerator": "cpu",
            "devices": 1,
            "enable_progress_bar": False,
            "enable_model_summary": False,
        },
        "model": {
            "base": str(folder / "model"),
            "lora": {"rank": 4},
            "dtype": "float32",
            "terms": {"policy": {"class_path": "objectives.PolicyGradient"}},
        },
        "data": {
            "environment": environment,
            "hint": None,
            "limits": {"tasks": 4, "heldout": 2, "max_turns": 2},
            "source": {
                "class_path": "fdt.rollout.sources.OnPolicy",
                "init_args": {"prompts_per_rollout": 2, "num_generations": 2},
            },
            "engine": {"class_path": "fdt.engines.HuggingFace", "init_args": {"max_new_tokens": 5}},
        },
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    done = quick("fit", "-c", path)
    assert done.returncode == 0, done.stderr[-3000:]
    header, *lines = (folder / "run" / "metrics" / "version_0" / "metrics.csv").read_text().splitlines()
    steps = [dict(zip(header.split(","), line.split(","), strict=True)) for line in lines]
    gaps = [float(step["train/sampling/logp_difference"]) for step in steps if step["train/sampling/logp_difference"]]
    assert len(gaps) == 2 and max(gaps) < 1e-4
    records = [json.loads(line) for line in (folder / "run" / "eval" / "last.jsonl").read_text().splitlines()]
    assert len(records) == 2
    return records
