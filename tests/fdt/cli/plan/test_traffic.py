"""What ranks receive from one another in a run, against what `fdt plan` says of its config."""

import json

import pytest

from tests.helpers.runs import config, fdt, quick

pytestmark = pytest.mark.slow
FSDP2 = {"class_path": "fdt.policy.fsdp.FSDP2", "init_args": {"process_group_backend": "gloo"}}


@pytest.mark.parametrize(
    ("mode", "strategy", "lora", "optimizer", "off"),
    [
        ("replay", "ddp", {"rank": 4}, "build_adamw", 0.01),
        ("replay", "ddp", {"rank": 4}, "SignalAdamW", 0.01),
        ("replay", FSDP2, None, "build_adamw", 0.01),
        ("replay", FSDP2, None, "SignalAdamW", 0.01),
        ("on_policy", FSDP2, None, "build_adamw", 0.1),
    ],
    ids=[
        "adapters",
        "moments per term",
        "all weights in shards",
        "moments per term in shards",
        "all weights in shards, sampled",
    ],
)
def test_the_bytes_that_a_plan_says_are_those_that_ranks_exchange(tmp_path, mode, strategy, lora, optimizer, off):
    counter = {"class_path": "tests.helpers.traffic.CountTraffic", "init_args": {"path": str(tmp_path / "counted")}}
    saves = {"class_path": "fdt.callbacks.Checkpoint", "init_args": {"every_n_train_steps": 1000}}
    changes = {"trainer__callbacks": [saves, counter], "trainer__max_steps": 2, "data__evaluation_limit": 1}
    changes |= {"trainer__check_val_every_n_epoch": 1000, "trainer__strategy": strategy, "trainer__devices": 2}
    changes |= {"model__optimizer": f"fdt.policy.optimizers.{optimizer}"}
    path = config(tmp_path, mode, model__lora=lora, **changes)
    done = fdt("fit", "-c", path)
    assert done.returncode == 0, done.stderr[-3000:]
    planned = quick(
        "plan", "-c", path, "--json", "--prompt-tokens", "20", "--answer-tokens", "6", "--imitated-share", "0"
    )
    said = json.loads(planned.stdout)["traffic"]
    for rank in range(2):
        steps = [json.loads(line) for line in (tmp_path / f"counted.{rank}").read_text().splitlines()]
        assert len(steps) == 2
        for step in steps:
            gathered = said.get("weights gathered", 0) + said.get("weights to generate", 0)
            assert step.get("gathered", 0) == pytest.approx(gathered, rel=off)
            assert step["reduced"] == pytest.approx(said["gradients"], rel=off)
