"""What the mix of signals is made of: moments per term, trust per annotator, credit for flat groups."""

import copy
import math
from types import SimpleNamespace

import pytest
import torch

from fdt.data.batch import Batch
from fdt.policy.annotator_trust import HINT, AnnotatorTrust, Reading
from fdt.policy.optimizers import SignalAdamW
from feedback.types import Episode, Feedback, Task, Turn
from objectives import GroupElseBatch, Rollouts, TokenLogProbs, topr
from objectives.losses.policy_gradient import Clip

TASK = Task("p", ({"role": "user", "content": "p"},))
TURN = Turn("assistant", "r")


def weights(seed: int = 0) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.nn.Parameter(torch.randn(5, 3, generator=generator)),
        torch.nn.Parameter(torch.randn(4, generator=generator)),
    ]


def gradients(seed: int) -> list[torch.Tensor]:
    return [p.detach() for p in weights(seed)]


def test_one_term_is_adamw():
    mine, theirs = weights(), weights()
    own = SignalAdamW(mine, lr=1e-2, betas=(0.9, 0.99), weight_decay=0.1, max_term_norm=1e9)
    reference = torch.optim.AdamW(theirs, lr=1e-2, betas=(0.9, 0.99), weight_decay=0.1)
    for step in range(10):
        own.step(gradients={"only": gradients(step + 1)})
        for p, g in zip(theirs, gradients(step + 1), strict=True):
            p.grad = g
        reference.step()
    for p, q in zip(mine, theirs, strict=True):
        torch.testing.assert_close(p, q)


def test_a_large_gradient_takes_no_room_from_a_small_one():
    alone, beside = weights(), weights()
    one, two = (SignalAdamW(p, lr=1e-2, max_term_norm=1e9) for p in (alone, beside))
    large = [1000 * g for g in gradients(2)]
    one.step(gradients={"small": gradients(1)})
    two.step(gradients={"small": gradients(1), "large": large}, weights={"large": 0.0})
    for p, q in zip(alone, beside, strict=True):
        torch.testing.assert_close(p, q)


def test_a_term_without_tokens_fades_and_keeps_its_second_moment():
    params = weights()
    optimizer = SignalAdamW(params, lr=1e-2)
    optimizer.step(gradients={"a": gradients(1)})
    before = {name: copy.copy(value) for name, value in optimizer.state[params[0]].items()}
    mean, square = before["a/exp_avg"].clone(), before["a/exp_avg_sq"].clone()
    optimizer.step(gradients={"a": None, "b": None})
    state = optimizer.state[params[0]]
    torch.testing.assert_close(state["a/exp_avg"], 0.9 * mean)
    torch.testing.assert_close(state["a/exp_avg_sq"], square)
    assert not any(name.startswith("b/") for name in state)


def test_the_state_goes_through_a_checkpoint():
    params = weights()
    optimizer = SignalAdamW(params, lr=1e-2)
    optimizer.step(gradients={"a": gradients(1), "b": gradients(2)})
    resumed = [torch.nn.Parameter(p.detach().clone()) for p in params]
    other = SignalAdamW(resumed, lr=1e-2)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for each in (optimizer, other):
        each.step(gradients={"a": gradients(3), "b": None}, weights={"b": 0.3})
    for p, q in zip(params, resumed, strict=True):
        assert torch.equal(p, q)


def scored(log_probs: list[float], index: list[int] | None = None) -> TokenLogProbs:
    """Two outcomes, of which the first is the target."""
    p = torch.tensor(log_probs).exp()
    hidden = torch.stack([p.log(), (1 - p).clamp(min=1e-9).log()], -1)
    place = None if index is None else torch.tensor(index)
    return TokenLogProbs(hidden, torch.eye(2), torch.zeros(len(log_probs), dtype=torch.long), place)


SAID = ("No.",)


def build_rollouts(scores: list[float], read: list[int]) -> Rollouts:
    """Answers of two tokens; `read` are the tokens that a teacher read."""
    rows = len(scores)
    row = torch.arange(rows).repeat_interleave(2)
    return Rollouts(
        advantages=torch.zeros(2 * rows),
        turn=row,
        episode=row,
        task=torch.zeros(rows, dtype=torch.long),
        masks={"distilled": torch.zeros(2 * rows, dtype=torch.bool).index_fill(0, torch.tensor(read), True)},
        scores={"score": torch.tensor(scores)},
    )


def collect(scores: list[float], teacher: list[float], read: list[int], said: tuple[str, ...] = SAID) -> AnnotatorTrust:
    """Trust after answers of two tokens, each of probability 0.5 to the policy, one annotator a row."""
    rows = range(len(scores))
    feedback = [tuple(Feedback("human", f"a{n}", text=text) for text in said) for n in rows]
    episodes = tuple(Episode(str(n), TASK, (TURN,), feedback[n]) for n in rows)
    trust = AnnotatorTrust()
    part = SimpleNamespace(episodes=episodes, rollouts=build_rollouts(scores, read))
    student = scored([math.log(0.5)] * 2 * len(scores))
    trust.collect(part, student, {"teacher": scored([math.log(p) for p in teacher], read)})
    return trust


def test_a_right_answer_counts_as_far_as_the_hinted_teacher_lets_it_stand():
    trust = collect([1.0, 1.0], [0.25, 0.25, 0.9, 0.9], [0, 1, 2, 3])
    # (0.25 / 0.5)^2 of the first, all of the second, which the critique made likelier.
    assert trust._count()["a0"] == pytest.approx([0.25, 0.75])
    assert trust._count()["a1"] == pytest.approx([1.0, 0.0])


def test_a_wrong_answer_counts_against_as_far_as_the_critique_made_it_likelier():
    trust = collect([0.0, 0.0, 0.0], [0.25, 0.25, 0.5, 0.5, 1.0, 1.0], [0, 1, 2, 3, 4, 5])
    assert trust._count()["a0"] == pytest.approx([0.0, 0.0])
    assert trust._count()["a1"] == pytest.approx(
        [0.0, 0.0]
    )  # a reader that did not understand says nothing of the author
    assert trust._count()["a2"] == pytest.approx([0.0, 0.75])


def test_what_no_teacher_read_or_nobody_scored_counts_nothing():
    assert set(collect([1.0, math.nan, 1.0], [0.25, 0.25, 0.5, 0.5], [0, 1, 2, 3])._count()) == {"a0"}


def read(number: int, annotator: str, log_ratio: float) -> Reading:
    """A right answer of one annotator that a teacher read."""
    episode = Episode(str(number), TASK, (TURN,), (Feedback("human", annotator, text="No."),))
    return Reading(episode, 1.0, log_ratio)


def test_an_answer_of_several_rows_counts_once():
    """A template that strips earlier reasoning gives each turn a row of its own; rows may lie in two micro-batches."""
    episode = Episode("e", TASK, (TURN, TURN), (Feedback("human", "kim", text="No."),))
    trust = AnnotatorTrust()
    for _ in range(2):
        rollouts = build_rollouts([1.0], [0, 1])
        part = SimpleNamespace(episodes=(episode,), rollouts=rollouts)
        teacher = scored([math.log(0.25)] * 2, [0, 1])
        trust.collect(part, scored([math.log(0.5)] * 2), {"teacher": teacher})
    assert trust._count() == {"kim": (pytest.approx(1 / 16), pytest.approx(15 / 16))}


def test_trust_is_that_in_what_the_teacher_read():
    """A hint that nobody wrote has a trust of its own; of a critique that no teacher read the score is left whole."""
    said = (Feedback("human", "kim", text="No."),)
    made = {
        "criticised and read": Episode("0", TASK, (TURN,), said),
        "criticised and not read": Episode("1", TASK, (TURN,), said),
        "shown a reference": Episode("2", TASK, (TURN,)),
        "no words": Episode("3", TASK, (TURN,)),
        "recalled": Episode("4", TASK, (TURN,), said, is_recalled=True),
    }
    trust = AnnotatorTrust()
    trust.counts = {"kim": (8.0, 0.0), HINT: (0.0, 2.0)}
    rollouts = build_rollouts([1.0] * 5, [0, 1, 4, 5])
    batch = Batch(student=None, rollouts=rollouts, episodes=tuple(made.values()))
    found = trust.add_scores(batch).rollouts.scores["trust"].tolist()
    expected = [0.9, math.nan, 0.25, math.nan, 0.9]
    assert found == pytest.approx(expected, nan_ok=True), dict(zip(made, found, strict=True))
    assert collect([1.0], [0.5, 0.5], [0, 1], said=())._count() == {HINT: (pytest.approx(1.0), pytest.approx(0.0))}


def test_a_term_is_clipped_by_its_own_norm_else_by_the_runs():
    large = [100 * g for g in gradients(1)]
    for given, most, expected in ((None, 0.5, 0.5), (2.0, 0.5, 2.0)):
        params = weights()
        optimizer = SignalAdamW(params, lr=0.0, betas=(0.0, 0.0), max_term_norm=given)
        optimizer.step(gradients={"a": large}, max_norm=most)
        norm = torch.cat([optimizer.state[p]["a/exp_avg"].flatten() for p in params]).norm()
        assert float(norm) == pytest.approx(expected, rel=1e-4)


def test_moments_that_were_made_for_a_checkpoint_change_no_step():
    alone, made = weights(), weights()
    one, two = SignalAdamW(alone, lr=1e-2), SignalAdamW(made, lr=1e-2)
    two.add_terms(["a", "b"])
    for step in range(3):
        for each in (one, two):
            each.step(gradients={"a": None if step == 0 else gradients(step), "b": None})
    for p, q in zip(alone, made, strict=True):
        assert torch.equal(p, q)
    assert two.state[made[0]]["b/steps"] == 0


def test_trust_follows_the_evidence():
    trust = AnnotatorTrust()
    assert trust.get_mean("anna") == 0.5
    trust._read = {n: read(n, "anna", 0.0) for n in range(3)} | {3 + n: read(3 + n, "ben", -math.inf) for n in range(8)}
    assert trust.update() == {"signals/trust/anna": pytest.approx(4 / 5), "signals/trust/ben": pytest.approx(1 / 10)}
    assert trust.get_mean("carl") == 0.5 and not trust._read


def test_a_flat_group_is_compared_with_the_batch():
    scores, task = torch.tensor([1.0, 0.0, 0.0, 0.0, math.nan]), torch.tensor([0, 0, 1, 1, 1])
    found = GroupElseBatch()(scores, task)
    torch.testing.assert_close(found[:2], torch.tensor([1.0, -1.0]), rtol=1e-4, atol=0)
    assert found[2] == found[3] == pytest.approx(-0.25 / math.sqrt(0.1875), rel=1e-4) and found[4] == 0


def test_topr_learns_what_was_right_and_lets_go_of_what_was_wrong():
    ratio, log_probs = torch.tensor([0.1, 0.1, 5.0]), torch.tensor([-1.0, -1.0, -1.0], requires_grad=True)
    topr(ratio, torch.tensor([1.0, -1.0, -1.0]), log_probs, Clip(0.2, 0.2)).sum().backward()
    torch.testing.assert_close(log_probs.grad, torch.tensor([-1.0, 0.1, 1.0]))
