"""Scored answers that are kept for later steps."""

import math
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from fdt.data.collate import Collator
from fdt.experience import Experience
from fdt.metrics.step import StepMetrics
from fdt.policy.annotator_trust import AnnotatorTrust
from fdt.rollout.dynamic_sampling import SampledRollout
from fdt.rollout.memory import ScoredMemory
from fdt.rollout.place import RolloutPosition
from fdt.rollout.sources import OnPolicy
from feedback.types import Episode, Feedback, Task, Turn
from objectives import KLAnchor, PolicyGradient, TokenLogProbs, sequence_ratio, topr
from tests.helpers.batches import learner
from tests.helpers.tiny import tokenizer


def answer(number: int, score: float) -> Episode:
    turn = Turn("assistant", "x", (1, 2), (-0.1, -0.2), sampled=True)
    return Episode(str(number), Task(f"task {number}", ()), (turn,), (Feedback(score=score),))


def test_memory_fills_up_to_its_share():
    memory, nothing = ScoredMemory(share=0.5), [answer(n, math.nan) for n in range(8)]
    assert memory.recall([answer(n, 1.0) for n in range(8)], 0) == [] and len(memory.kept) == 8
    found = memory.recall([answer(9, 0.0), *nothing[1:]], 1)
    assert len(found) == 3 and all(e.is_recalled for e in found) and len(memory.kept) == 9
    assert memory.recall(nothing, 1) == memory.recall(nothing, 1)


def test_answers_are_recalled_by_how_much_their_score_counts():
    """Of a trusted critic's answers few, of a liar's nearly as many as of those that nobody criticised."""
    trust = AnnotatorTrust()
    trust.counts = {"trusted": (98.0, 0.0), "liar": (0.0, 8.0)}
    said = {name: (Feedback(score=1.0, text="No.", annotator=name),) for name in ("trusted", "liar")}
    kinds = [said["trusted"], said["liar"], (Feedback(score=1.0),)]
    memory, nothing = ScoredMemory(share=0.1), [answer(n, math.nan) for n in range(100)]
    memory.recall([replace(answer(n, 1.0), feedback=kinds[n % 3]) for n in range(300)], 0)
    drawn = [memory.recall(nothing, seed, trust.weigh_score) for seed in range(40)]
    assert all(len(found) == len({episode.id for episode in found}) == 10 for found in drawn)
    assert drawn[0] == memory.recall(nothing, 0, trust.weigh_score) != drawn[1]
    names = [episode.feedback[0].annotator for found in drawn for episode in found]
    shares = {name: names.count(name) / len(names) for name in ("trusted", "liar", None)}
    assert shares["trusted"] < 0.02 and shares["liar"] == pytest.approx(0.9 / 1.91, abs=0.1)
    assert memory.recall(nothing, 0, lambda episode: 0.0) == [], "whose score counts for nothing teaches nothing"


@pytest.mark.parametrize("trusted", [True, False])
def test_a_run_recalls_by_the_trust_that_its_learner_has(tiny_model, trusted):
    made = learner(tiny_model, trust=AnnotatorTrust() if trusted else None)
    data = Experience("rows.jsonl", source=OnPolicy(memory=ScoredMemory(share=1.0)))
    data.trainer = SimpleNamespace(lightning_module=made, precision_plugin=SimpleNamespace(forward_context=nullcontext))
    if trusted:
        made.trust.counts = {"critic": (1e9, 0.0)}
    said = (Feedback(score=1.0, text="No.", annotator="critic"),)
    scored = [replace(answer(n, 1.0), feedback=said) if n < 8 else answer(n, 1.0) for n in range(12)]
    position = RolloutPosition(0, 0)
    data.source.recall(SampledRollout(scored, torch.ones(12, dtype=torch.bool)), position, data.actor)
    fresh = SampledRollout([answer(n, math.nan) for n in range(4)], torch.ones(4, dtype=torch.bool))
    drawn = data.source.recall(fresh, position, data.actor).episodes[4:]
    critics = [episode.feedback[0].annotator for episode in drawn]
    assert len(drawn) == 4 and ("critic" in critics) is not trusted


def test_memory_leaves_out_what_cannot_be_weighed():
    recorded = answer(0, 1.0)
    memory = ScoredMemory()
    memory.recall([replace(recorded, turns=(Turn("assistant", "x"),))], 0)
    assert memory.kept == []


def test_memory_goes_through_a_checkpoint():
    memory, other = ScoredMemory(), ScoredMemory()
    memory.recall([answer(0, 1.0), answer(1, 0.0)], 0)
    packed = memory.pack()
    assert packed.dtype == torch.uint8
    other.unpack(packed)
    assert other.kept == memory.kept and all(episode.is_recalled for episode in other.kept)


def test_a_recalled_answer_is_weighed_by_how_it_was_sampled_and_read_by_no_teacher():
    words = tokenizer()
    task = Task("t", ({"role": "user", "content": "go"},))
    ids = tuple(words("so", add_special_tokens=False)["input_ids"])
    turn = Turn("assistant", "so", ids, tuple(-0.5 for _ in ids), sampled=True)
    old = Episode("old", task, (turn,), (Feedback(score=0.0, text="No."),), is_recalled=True)
    fresh = replace(old, id="new", is_recalled=False)
    batch = Collator(words)([fresh, old], torch.tensor([1.0, -1.0]))
    row = batch.rollouts.episode
    assert batch.rollouts.masks["recalled"].tolist() == (row == 1).tolist()
    assert batch.rollouts.old_log_probs[row == 1].tolist() == pytest.approx([-0.5] * len(ids))
    assert batch.rollouts.old_log_probs[row == 0].isnan().all()
    assert not KLAnchor().get_mask(batch.rollouts)[row == 1].any()
    term = PolicyGradient(ratio=sequence_ratio, surrogate=topr)
    assert (term.weigh(batch.rollouts) != 0).all()


def test_a_recalled_answer_is_not_measured_as_one_of_the_policys_own(tiny_model):
    """Its tokens were drawn by an earlier policy: KL, entropy and the engine's gap are those of fresh answers."""
    made = learner(tiny_model, terms={"policy": PolicyGradient()}, log_kl_to_init=True)
    task = Task("t", ({"role": "user", "content": "go"},))
    ids = tuple(made.policy.tokenizer("so", add_special_tokens=False)["input_ids"])
    turn = Turn("assistant", "so", ids, tuple(-0.5 for _ in ids), sampled=True)
    fresh = [Episode(f"f{n}", task, (turn,), (Feedback(score=float(n)),)) for n in range(2)]
    recalled = [replace(one, id=f"r{n}", is_recalled=True) for n, one in enumerate(fresh)]
    collator = Collator(made.policy.tokenizer, None)
    found = {}
    for name, rows in (("alone", fresh), ("beside recalled ones", [*fresh, *recalled])):
        step = collator(rows, torch.linspace(-1, 1, len(rows)))
        rollouts = replace(step.rollouts, weights=made.objective.weigh(step.rollouts))
        step = replace(step, rollouts=replace(rollouts, totals=made.objective.compute_totals(rollouts)))
        metrics = StepMetrics(step, made.objective.active)
        student = made.policy.compute_log_probs(step.student)
        other = TokenLogProbs(2 * student.hidden, student.weight, student.targets)
        metrics.add(step, made.objective(student, {}, step.rollouts), student, {"start": other}, step.rollouts)
        values = metrics.finish(torch.device("cpu"), 1, 1.0)
        found[name] = [values[key] for key in ("kl_init", "entropy", "sampling/logp_difference")]
    assert found["beside recalled ones"] == pytest.approx(found["alone"], rel=1e-5) and all(found["alone"])
