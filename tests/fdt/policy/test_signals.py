"""What the mix of signals is made of: moments per term, trust per annotator, credit for flat groups."""

import copy
import math

import pytest
import torch

from fdt.policy.annotator_trust import AnnotatorTrust, compute_acceptance
from fdt.policy.optimizers import SignalAdamW
from objectives import GroupElseBatch, TokenLogProbs, topr
from objectives.losses.policy_gradient import Clip


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


def test_acceptance_is_that_of_the_whole_answer():
    student = scored([math.log(0.5)] * 4)
    teacher = scored([math.log(0.25), math.log(0.25)], index=[2, 3])
    found = compute_acceptance(student, teacher, torch.tensor([0, 0, 1, 1]), 2)
    assert found[0].isnan() and found[1] == pytest.approx(0.25)


def test_trust_follows_the_evidence():
    trust = AnnotatorTrust()
    assert trust.get_mean("anna") == 0.5
    trust.pending["anna"] = [3.0, 0.0]
    trust.pending["ben"] = [0.0, 8.0]
    assert trust.update() == {"signals/trust/anna": pytest.approx(4 / 5), "signals/trust/ben": pytest.approx(1 / 10)}
    assert trust.get_mean("carl") == 0.5 and not trust.pending


def test_a_flat_group_is_compared_with_the_batch():
    scores, task = torch.tensor([1.0, 0.0, 0.0, 0.0, math.nan]), torch.tensor([0, 0, 1, 1, 1])
    found = GroupElseBatch()(scores, task)
    torch.testing.assert_close(found[:2], torch.tensor([1.0, -1.0]), rtol=1e-4, atol=0)
    assert found[2] == found[3] == pytest.approx(-0.25 / math.sqrt(0.1875), rel=1e-4) and found[4] == 0


def test_topr_learns_what_was_right_and_lets_go_of_what_was_wrong():
    ratio, log_probs = torch.tensor([0.1, 0.1, 5.0]), torch.tensor([-1.0, -1.0, -1.0], requires_grad=True)
    topr(ratio, torch.tensor([1.0, -1.0, -1.0]), log_probs, Clip(0.2, 0.2)).sum().backward()
    torch.testing.assert_close(log_probs.grad, torch.tensor([-1.0, 0.1, 1.0]))
