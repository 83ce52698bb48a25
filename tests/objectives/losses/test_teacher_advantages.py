"""Teachers that shape advantages, that weigh by degrees, and that are chosen among hints."""

import math
from dataclasses import replace

import pytest
import torch
from torch import tensor

from objectives import (
    Distill,
    DistillBestHint,
    EntropyBonus,
    Objective,
    OldPolicyPenalty,
    PolicyGradient,
    ReferenceKL,
    SupportOverlap,
    TeacherAdvantage,
    TeacherConfidence,
    TeacherScaledAdvantage,
    TokenLogProbs,
    TopCovariance,
    TopKTeacherAdvantage,
    absolute_difference,
    k1,
    k2,
    k3,
    reinforce,
    reverse_kl,
)
from objectives.losses.hints import assemble_teacher, choose_best_hint
from objectives.losses.token_weights import count_common
from tests.helpers.rollouts import from_log_probs, rollouts, run, scored, weigh


def pair(log_probs):
    """Log-probs of two outcomes whose first has these."""
    log_probs = tensor(log_probs).double()
    return torch.stack([log_probs, torch.log1p(-log_probs.exp())], -1)


def constant(log_probs, index=None):
    made = from_log_probs(log_probs)
    return TokenLogProbs(made.hidden.detach(), made.weight, made.targets, index)


def test_combined_advantage():
    """Hint -1.0, old -1.5, r = -1: A = -1 + 0.5."""
    student, teacher = from_log_probs(pair([-1.5])), constant(pair([-1.0]))
    batch = rollouts((1,), advantages=tensor([-1.0]).double(), old_log_probs=tensor([-1.5]).double())
    term = TeacherAdvantage(mask="sampled", reward_weight=1.0)
    assert run(term, student, {"teacher": teacher}, batch).value.item() == pytest.approx(0.5)
    assert run(TeacherAdvantage(), student, {"teacher": teacher}, batch).value.item() == pytest.approx(-0.5)
    bounded = TeacherAdvantage(bound=0.2)
    assert run(bounded, student, {"teacher": teacher}, batch).value.item() == pytest.approx(-0.2)


def test_a_token_without_teacher_keeps_only_its_reward():
    student, teacher = from_log_probs(pair([-1.5, -0.5])), constant(pair([-1.0]), tensor([0]))
    batch = rollouts((2,), advantages=tensor([1.0, 1.0]).double())
    term = TeacherAdvantage(mask="sampled", reward_weight=1.0)
    loss = run(term, student, {"teacher": teacher}, batch)
    assert torch.autograd.grad(loss.value, student.log_probs)[0].tolist() == pytest.approx([-0.75, -0.5])
    assert run(term, student, {}, batch).value.item() == pytest.approx(-1)


def test_expected_gradient_is_that_of_reverse_kl():
    logits = torch.randn(1, 6).double().requires_grad_()
    log_s, log_t = torch.log_softmax(logits, -1), torch.log_softmax(torch.randn(1, 6).double(), -1)
    total = torch.zeros(1, 6).double()
    for token in range(6):
        student = TokenLogProbs(logits, torch.eye(6).double(), tensor([token]))
        teacher = TokenLogProbs(log_t, torch.eye(6).double(), tensor([token]))
        loss = run(TeacherAdvantage(), student, {"teacher": teacher}, rollouts((1,)))
        total += log_s[0, token].exp().detach() * torch.autograd.grad(loss.value, logits)[0]
    assert torch.allclose(total, torch.autograd.grad(reverse_kl(log_s, log_t).sum(), logits)[0])


def test_the_reward_fixes_the_sign_and_the_teacher_the_size():
    student, teacher = from_log_probs(pair([-1.0] * 4)), constant(pair([-0.9, -1.1, -0.9, -3.0]))
    batch = rollouts((4,), advantages=tensor([1.0, 1.0, -1.0, -1.0]).double())
    loss = run(TeacherScaledAdvantage(), student, {"teacher": teacher}, batch)
    got = -4 * torch.autograd.grad(loss.value, student.log_probs)[0]
    assert got.tolist() == pytest.approx([math.exp(0.1), math.exp(-0.1), -math.exp(-0.1), -1.2])
    bare = run(TeacherScaledAdvantage(), student, {}, batch)
    assert torch.allclose(bare.value, run(PolicyGradient(), student, {}, batch).value)


def test_a_sure_teacher_weighs_more():
    sure, unsure = [0.0, -1e4, -1e4, -1e4], [0.0] * 4
    teacher = TokenLogProbs(tensor([sure, unsure]).double(), torch.eye(4).double(), tensor([0, 0]))
    student = scored(n=2, v=4, d=4)
    assert TeacherConfidence()(student, teacher, rollouts((2,))).tolist() == pytest.approx([1, 1 / 4])
    first = tensor([0])
    plain_loss = run(Distill(k=None), student.select(first), {"teacher": teacher.select(first)}, rollouts((1,)))
    loss = run(Distill(k=None, token_weight=TeacherConfidence()), student, {"teacher": teacher}, rollouts((2,)))
    second = student.select(tensor([1])).fold(reverse_kl, teacher.select(tensor([1]))).item()
    assert loss.value.item() == pytest.approx((plain_loss.value.item() + second / 4) / 2)


def test_overlap():
    assert count_common(tensor([[1, 2, 3]]), tensor([[3, 1, 9]])).tolist() == [2]
    student = TokenLogProbs(tensor([[4.0, 3, 2, 1]]), torch.eye(4), tensor([0]))
    teacher = TokenLogProbs(tensor([[1.0, 2, 3, 4]]), torch.eye(4), tensor([0]))
    assert SupportOverlap(k=3, min_share=0.6)(student, teacher, rollouts((1,))).item() == 1
    assert SupportOverlap(k=2, min_share=0.5)(student, teacher, rollouts((1,))).item() == 0


def test_importance_weighs_distillation():
    student, teacher = scored(n=3), scored(n=3, seed=5, grad=False)
    old = student.log_probs.detach() - tensor([0.1, 3.0, -0.5])
    batch = rollouts((3,), old_log_probs=old)
    weights = tensor([math.exp(0.1), 2.0, math.exp(-0.5)]).double()
    full = student.fold(reverse_kl, teacher)
    loss = run(Distill(k=None, importance=2.0), student, {"teacher": teacher}, batch)
    assert torch.allclose(loss.value, (weights * full).mean())
    expected = torch.autograd.grad((weights * full).mean(), student.hidden)[0]
    assert torch.allclose(torch.autograd.grad(loss.value, student.hidden)[0], expected)


def teachers():
    """Two hints of one model: the second is the student itself on row 1 and scores nothing of row 2."""
    student = scored(n=9)
    first = scored(n=9, seed=7, grad=False)
    same = student.hidden.detach().clone()
    second = TokenLogProbs(same[3:6], first.weight, student.targets[3:6], torch.arange(3, 6))
    first = TokenLogProbs(first.hidden, first.weight, student.targets)
    student = TokenLogProbs(student.hidden, first.weight, student.targets)
    return student, first, second


def test_each_row_learns_from_the_hint_that_fits():
    student, first, second = teachers()
    batch = rollouts((3, 3, 3))
    choice = choose_best_hint(student, [first, second], batch.episode, 3, 4)
    assert choice.tolist() == [0, 1, 0]
    joined = assemble_teacher([first, second], choice, batch.episode)
    assert torch.equal(joined.index, torch.arange(9)) and torch.equal(joined.hidden[3:6], student.hidden[3:6])
    term = DistillBestHint(k=4, hints=["hint/1"])
    loss = run(term, student, {"teacher": first, "hint/1": second}, batch)
    others = [
        run(Distill(k=4), student, {"teacher": first}, replace(batch, masks={"distilled": mark})).value
        for mark in [batch.episode != 1]
    ]
    assert loss.value.item() == pytest.approx(others[0].item() * 6 / 9)
    assert term.needs == {"teacher", "hint/1"}
    with pytest.raises(ValueError, match="different heads"):
        assemble_teacher([first, scored(n=9, seed=8, grad=False)], choice, batch.episode)


def expected_gradient(term, logits, reference, old):
    """Sum over tokens of old's probability times the gradient of the term's loss."""
    total = torch.zeros_like(logits)
    for token in range(logits.shape[1]):
        student = TokenLogProbs(logits, torch.eye(logits.shape[1]).double(), tensor([token]))
        other = TokenLogProbs(reference, torch.eye(logits.shape[1]).double(), tensor([token]))
        batch = rollouts((1,), old_log_probs=old[:, token])
        loss = run(term, student, {"reference": other}, batch)
        total += old[0, token].exp() * torch.autograd.grad(loss.value, logits)[0]
    return total


@pytest.mark.parametrize("estimator, importance", [(k1, "through"), (k2, "detached"), (k3, "through")])
def test_right_gradients_of_the_reference_kl_off_policy(estimator, importance):
    logits = torch.randn(1, 5).double().requires_grad_()
    reference, old = (torch.log_softmax(torch.randn(1, 5).double(), -1) for _ in range(2))
    got = expected_gradient(ReferenceKL(estimator=estimator, importance=importance), logits, reference, old)
    kl = reverse_kl(torch.log_softmax(logits, -1), reference).sum()
    assert torch.allclose(got, torch.autograd.grad(kl, logits)[0])
    wrong = expected_gradient(ReferenceKL(estimator=k3), logits, reference, old)
    assert not torch.allclose(wrong, got, atol=1e-2)


def test_k1_alone_is_refused():
    with pytest.raises(ValueError, match="expected 'through'"):
        ReferenceKL(estimator=k1)


def test_after_a_reset_the_kl_is_exactly_zero():
    student = scored()
    copy = TokenLogProbs(student.hidden.detach(), student.weight, student.targets)
    for estimator in (k2, k3):
        loss = run(ReferenceKL(estimator=estimator), student, {"reference": copy}, rollouts())
        slope = torch.autograd.grad(loss.value, student.hidden, retain_graph=True)[0]
        assert loss.value == 0 and slope.abs().max() == 0


def test_kl_cov_presses_on_the_top_tokens_and_divides_by_all():
    student = scored(n=4)
    old = student.log_probs.detach() - tensor([0.5, 0.0, -0.25, 0.1])
    batch = rollouts((4,), old_log_probs=old)
    top = TopCovariance(fraction=0.5)
    kept = top(batch).bool()
    loss = run(OldPolicyPenalty(estimator=absolute_difference, gate=top, keep_masked=True), student, {}, batch)
    assert loss.value.item() == pytest.approx((student.log_probs - old).abs()[kept].sum().item() / 4)


def test_stay_near_is_flat_on_policy():
    student = scored()
    loss = run(OldPolicyPenalty(), student, {}, rollouts())
    assert loss.value == 0 and torch.autograd.grad(loss.value, student.hidden)[0].abs().max() == 0


def test_entropy_bonus():
    student = scored()
    mix = Objective({"entropy": EntropyBonus()})
    batch = weigh(mix, rollouts())
    loss = mix(student, {}, batch)
    assert torch.allclose(loss.value, -student.entropy.mean())

    def value(hidden):
        return mix(TokenLogProbs(hidden, student.weight, student.targets), {}, batch).value

    assert torch.autograd.gradcheck(value, student.hidden)


def test_dual_clip_bounds_blame_only():
    student = scored(n=2)
    old = student.log_probs.detach() - math.log(5)
    for advantage, expected in ((-1.0, 3.0), (1.0, -1.28)):
        batch = rollouts((2,), old_log_probs=old, advantages=torch.full((2,), advantage).double())
        assert run(PolicyGradient(dual_clip=3.0), student, {}, batch).value.item() == pytest.approx(expected)
    batch = replace(batch, advantages=-batch.advantages)
    assert run(PolicyGradient(surrogate=reinforce), student, {}, batch).value.item() == pytest.approx(5)


S, T = tensor([0.4, 0.3, 0.15, 0.1, 0.05]).double(), tensor([0.2, 0.5, 0.1, 0.15, 0.05]).double()


def test_each_outcome_has_its_advantage():
    """S .4 .3 .15 .1 (.05), T .2 .5 .1 .15 (.05): w = S / .95, A = w log(T/S), their sum -.15188."""
    student, teacher = from_log_probs(S.log()[None]), constant(T.log()[None])
    batch = rollouts((1,))
    loss = run(TopKTeacherAdvantage(), student, {"teacher": teacher}, batch)
    advantages = S[:4] / 0.95 * (T / S).log()[:4]
    assert advantages.tolist() == pytest.approx([-0.29185, 0.16131, -0.06402, 0.04268], abs=1e-5)
    assert loss.value.item() == pytest.approx(0.15188, abs=1e-5)
    assert loss.metrics["teacher/top_k_mass"].item() == pytest.approx(0.95)
    (slope,) = torch.autograd.grad(loss.value, student.hidden)
    onehot = torch.eye(5).double()[:4]
    assert torch.allclose(slope[0], -(advantages[:, None] * (onehot - S)).sum(0))
    # The first two are held at half a nat.
    near = run(TopKTeacherAdvantage(bound=0.5), student, {"teacher": teacher}, batch).value.item()
    assert near == pytest.approx(-(-0.5 * 0.42105 + 0.5 * 0.31579 - 0.40547 * 0.15789 + 0.40547 * 0.10526), abs=1e-5)


def test_an_outcome_beyond_its_clip_teaches_no_more():
    """old gave the praised second outcome .2, the student .3: its ratio 1.5 is clipped at 1.28 and has no gradient."""
    student, teacher = from_log_probs(S.log()[None]), constant(T.log()[None])
    ids, old = tensor([[1, 0]]), tensor([[0.2, 0.4]]).double().log()
    batch = rollouts((1,), top_k_ids=ids, top_k_log_probs=old)
    loss = run(TopKTeacherAdvantage(), student, {"teacher": teacher}, batch)
    praise, blame = 1 / 3 * math.log(0.5 / 0.2), 2 / 3 * math.log(0.5)
    assert loss.value.item() == pytest.approx(-(1.28 * praise + blame))
    (slope,) = torch.autograd.grad(loss.value, student.hidden)
    assert torch.allclose(slope[0], -blame * (torch.eye(5).double()[0] - S))
    assert loss.metrics["clip_fraction"].item() == 0.5


def test_rows_without_a_teacher_are_not_asked():
    student = scored(6, 9, grad=True)
    batch = rollouts((3, 3))
    batch = replace(batch, masks=batch.masks | {"distilled": batch.episode == 1})
    part = scored(6, 9, seed=1, grad=False).select(tensor([3, 4, 5]))
    loss = run(TopKTeacherAdvantage(), student, {"teacher": part}, batch)
    (slope,) = torch.autograd.grad(loss.value, student.hidden)
    assert not slope[:3].any() and slope[3:].any()
    nobody = replace(batch, masks=batch.masks | {"distilled": torch.zeros(6).bool()})
    assert run(TopKTeacherAdvantage(), student, {}, nobody).value.item() == 0.0
