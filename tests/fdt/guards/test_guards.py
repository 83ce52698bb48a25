"""Guards measure what they promise, wait for their patience, and warn, stop or put the run back."""

import math
from dataclasses import dataclass

import pytest
import torch

from fdt.guards import ConfidenceCollapse, EntropyCollapse, HintLeak, KLLimit, LengthDrift
from feedback.types import Episode, Feedback, Task, Turn
from tests.helpers.runs import config, quick


def episode(answer: str, *feedback: Feedback) -> Episode:
    return Episode(
        "e", Task("t", ({"role": "user", "content": "What is 3 + 4?"},)), (Turn("assistant", answer),), feedback
    )


@dataclass(frozen=True)
class Answers:
    """The part of a batch that guards read."""

    episodes: tuple[Episode, ...]


@dataclass(frozen=True)
class Step:
    """The part of a step's metrics that guards read."""

    batch: Answers
    values: dict[str, float]


def step(*episodes: Episode, values: dict[str, float] | None = None) -> Step:
    return Step(Answers(episodes), values or {})


def test_length_drifts_both_ways_from_its_start():
    guard = LengthDrift(factor=2.0, reference_steps=2)
    assert guard.measure(step(values={"train/completions/mean_length": 7.0}), "cpu") == 7.0
    assert math.isnan(guard.measure(step(), "cpu"))
    assert guard.check_bounds([10, 20]) is None  # the reference itself
    assert guard.check_bounds([10, 20, 30]) is None and "31 tokens" in guard.check_bounds([10, 20, 31])
    assert guard.check_bounds([10, 20, 7.5]) is None and guard.check_bounds([10, 20, 7.4])


def test_entropy_and_distance_have_their_bounds():
    assert EntropyCollapse(share=0.1, reference_steps=1).check_bounds([2.0, 0.2]) is None
    assert "0.190" in EntropyCollapse(share=0.1, reference_steps=1).check_bounds([2.0, 0.19])
    assert KLLimit(nats=0.5).check_bounds([0.5]) is None and KLLimit(nats=0.5).check_bounds([0.51])


def test_a_guard_waits_for_its_patience():
    guard = KLLimit(nats=1.0, patience=2)
    assert (
        guard.check_patience([2.0]) is None
        and guard.check_patience([2.0, 0.5]) is None
        and guard.check_patience([0.5, 2.0]) is None
    )
    assert guard.check_patience([0.5, 2.0, 3.0])


def test_a_leak_is_counted_where_the_prompt_mentions_no_feedback():
    critique = Feedback(text="You must carry the one over to the tens before adding.")
    honest, mentions = episode("7", critique), episode("As the critique says, 7", critique)
    copies = episode("I must carry the one over to the tens, so 7", critique)
    assert HintLeak().measure(step(honest, mentions, copies, honest), "cpu") == 0.5
    assert HintLeak(share=0.1).check_bounds([0.3, 0.4]) is None and HintLeak(share=0.1).check_bounds([0.3, 0.41])


def test_confidences_that_are_all_alike():
    def sure(value):
        return episode("7", Feedback(name="confidence", score=value))

    guard = ConfidenceCollapse()
    assert guard.measure(step(sure(0.5), sure(0.9)), "cpu") == pytest.approx(math.sqrt(0.08))
    assert math.isnan(guard.measure(step(sure(0.5), episode("7")), "cpu"))
    assert guard.check_bounds([0.0]) and guard.check_bounds([0.3]) is None


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="action: got 'panic'"):
        KLLimit(action="panic")
    with pytest.raises(ValueError, match="patience"):
        KLLimit(patience=0)


def guarded(tmp_path, action: str, **more):
    """From the second step on the policy has moved, so a limit of 0 trips; patience 1."""
    guard = {"class_path": "fdt.guards.KLLimit", "init_args": {"nats": 0.0, "action": action, "patience": 1}}
    callbacks = [
        {"class_path": "fdt.callbacks.Guards", "init_args": {"guards": [guard], "every_n_train_steps": 1, **more}}
    ]
    path = config(tmp_path, "replay", trainer__max_steps=3, trainer__callbacks=callbacks)
    return quick("fit", "-c", path)


def saved(tmp_path, name: str) -> dict:
    return torch.load(tmp_path / "run" / "checkpoints" / name, weights_only=False)


def test_warn_warns_once_and_goes_on(tmp_path):
    run = guarded(tmp_path, "warn")
    assert run.returncode == 0 and run.stderr.count("KLLimit: the KL to the start is") == 1
    assert saved(tmp_path, "last.ckpt")["global_step"] == 3
    assert "guard/KLLimit" in (tmp_path / "run" / "metrics" / "version_0" / "metrics.csv").read_text().split("\n")[0]


def test_stop_keeps_the_step_and_ends_with_an_error(tmp_path):
    run = guarded(tmp_path, "stop")
    assert run.returncode == 2 and "KLLimit: the KL to the start is" in run.stderr and "Traceback" not in run.stderr
    assert saved(tmp_path, "last.ckpt")["global_step"] == 2


def test_roll_back_restores_weights_and_optimiser(tmp_path):
    run = guarded(tmp_path, "roll_back", max_rollbacks=5)
    assert run.returncode == 0, run.stderr[-2000:]
    good, last = saved(tmp_path, "good.ckpt"), saved(tmp_path, "last.ckpt")
    assert (good["global_step"], last["global_step"]) == (1, 3)
    assert all(torch.equal(last["state_dict"][name], value) for name, value in good["state_dict"].items())
    first, again = good["optimizer_states"][0]["state"], last["optimizer_states"][0]["state"]
    assert first and all(torch.equal(again[n][key], first[n][key]) for n in first for key in ("exp_avg", "step"))


def test_a_run_is_not_put_back_for_ever(tmp_path):
    run = guarded(tmp_path, "roll_back", max_rollbacks=1)
    assert run.returncode == 2 and "after 1 times back" in run.stderr
