"""Gates on what the engine reported act in a run; where nobody reported anything the run refuses."""

import csv
import math
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from fdt.engines import HuggingFace
from fdt.errors import UserError
from fdt.policy.log_probs import add_old_log_probs
from objectives import ClipCov, Every, IcePop, Not, PolicyGradient, ScoreGate, SequenceMask, TruncatedIS
from tests.helpers.batches import batch, learner, shake
from tests.helpers.runs import config, quick

SPARSE = {"class_path": "tests.helpers.probes.EvenBytes"}


@dataclass(frozen=True)
class Skewed(HuggingFace):
    """An engine whose reports are off: every second token by `shift` nats, as where it runs other kernels."""

    shift: float = 1.5
    """Nats."""

    def generate(self, *arguments, **named):
        return [
            replace(
                sample,
                log_probs=tuple(value + (place % 2) * self.shift for place, value in enumerate(sample.log_probs)),
            )
            for sample in super().generate(*arguments, **named)
        ]


def policy(gate: str | None, **settings) -> dict:
    term = {"class_path": "objectives.PolicyGradient", "init_args": {"keep_masked": True}}
    if gate is not None:
        term["init_args"]["gate"] = {"class_path": f"objectives.{gate}", "init_args": settings}
    return {"policy": term}


def run(folder: Path, terms: dict, engine: str = "tests.fdt.rollout.test_mismatch.Skewed", mode: str = "on_policy"):
    folder.mkdir()
    made = {"class_path": engine, "init_args": {"max_new_tokens": 6}}
    return quick(
        "fit",
        "-c",
        config(
            folder,
            mode,
            data__engine=made,
            data__grader=SPARSE,
            trainer__max_steps=1,
            trainer__num_sanity_val_steps=0,
            model__terms=terms,
        ),
    )


def logged(folder: Path) -> dict[str, str]:
    with (folder / "run" / "metrics" / "version_0" / "metrics.csv").open() as file:
        return next(row for row in csv.DictReader(file) if row.get("train/loss"))


@pytest.mark.slow
def test_gates_act_in_a_run_whose_engine_is_off(tmp_path):
    found = {}
    for name, gate in {
        "none": policy(None),
        "tis": policy("TruncatedIS"),
        "icepop": policy("IcePop"),
        "sequence": policy("SequenceMask", low=0.5),
    }.items():
        done = run(tmp_path / name, gate)
        assert done.returncode == 0, done.stderr[-2000:]
        found[name] = float(logged(tmp_path / name)["train/optim/grad_norm"])
    # Half of the tokens have w = exp(-1.5): cut by IcePop, weighed down by TIS; their product falls under 0.5.
    assert found["none"] > 0 and len({round(value, 6) for value in found.values()}) == 4
    assert float(logged(tmp_path / "tis")["train/sampling/logp_difference"]) == pytest.approx(0.75, abs=0.3)


@pytest.mark.slow
def test_an_engine_that_agrees_has_weights_of_one(tmp_path):
    done = [
        run(tmp_path / name, policy(gate), "fdt.engines.HuggingFace")
        for name, gate in (("none", None), ("tis", "TruncatedIS"))
    ]
    assert not any(d.returncode for d in done), done[-1].stderr[-2000:]
    norms = [float(logged(tmp_path / name)["train/optim/grad_norm"]) for name in ("none", "tis")]
    assert norms[0] == pytest.approx(norms[1], rel=1e-3)
    assert float(logged(tmp_path / "tis")["train/sampling/logp_difference"]) < 1e-3


def test_replayed_answers_were_drawn_by_no_engine(tmp_path):
    done = run(tmp_path / "a", policy("TruncatedIS"), "fdt.engines.HuggingFace", "replay")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "no answer has the engine's log-probs" in done.stderr and "Remove TruncatedIS" in done.stderr


def test_what_a_gate_reads_is_there_before_it_weighs(tiny_model):
    gated = PolicyGradient(gate=Every([Not(ScoreGate(comparison=">=")), ClipCov(fraction=0.5, low=0.0)]))
    made = learner(tiny_model, terms={"policy": gated})
    step = batch(made.policy.tokenizer)
    assert made.objective.reads == {"old_log_probs"}
    now = made.policy.compute_log_probs(step.student).log_probs.detach()
    shake(made.policy)
    for behaviour in ("policy", "start"):
        given = replace(step, behaviour=behaviour)
        old = add_old_log_probs(given, made.objective.reads, made.policy, made.start, 100).rollouts.old_log_probs
        actor = now if behaviour == "start" else made.policy.compute_log_probs(step.student).log_probs.detach()
        torch.testing.assert_close(old, actor, rtol=1e-5, atol=1e-5)
    assert add_old_log_probs(step, frozenset(), made.policy, made.start, 100) is step


@pytest.mark.parametrize("gate", [TruncatedIS(), IcePop(), SequenceMask()])
def test_tokens_that_the_engine_did_not_draw_weigh_one(gate, tiny_model):
    made = learner(tiny_model, terms={"policy": PolicyGradient(gate=gate)})
    step = batch(made.policy.tokenizer)
    old = made.policy.compute_log_probs(step.student).log_probs.detach()
    unknown = torch.full_like(old, math.nan)
    with pytest.raises(UserError, match="no answer has the engine's log-probs"):
        add_old_log_probs(
            replace(step, rollouts=replace(step.rollouts, engine_log_probs=unknown)),
            gate.reads,
            made.policy,
            made.start,
            99,
        )
    silent = replace(step, rollouts=replace(step.rollouts, engine_log_probs=unknown)).zero_weights()
    assert gate(add_old_log_probs(silent, gate.reads, made.policy, made.start, 99).rollouts).eq(1).all()
    some = unknown.clone()
    some[0] = old[0] - 0.5
    weights = gate(replace(step.rollouts, old_log_probs=old, engine_log_probs=some))
    assert weights[step.rollouts.episode != 0].eq(1).all() and weights[0] == pytest.approx(math.exp(0.5))
