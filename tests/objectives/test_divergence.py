"""Divergences: worked numbers, identities, bounds."""

import math

import pytest
import torch
from torch import tensor

from objectives import (
    GeneralisedJS,
    SkewedForwardKL,
    SkewedReverseKL,
    coarsen,
    forward_kl,
    js,
    k1,
    k2,
    k3,
    renormalise,
    reverse_kl,
)
from objectives.divergence import LOG_FLOOR, is_clamped

P, Q = tensor([0.7, 0.2, 0.1]).double(), tensor([0.5, 0.3, 0.2]).double()
ALL = [reverse_kl, forward_kl, js]


def pairs(n=6, v=9):
    return torch.log_softmax(torch.randn(n, v).double(), -1), torch.log_softmax(torch.randn(n, v).double(), -1)


def test_worked_numbers():
    assert reverse_kl(P.log(), Q.log()).item() == pytest.approx(0.08512, abs=5e-6)
    ratio = (P / Q).log()
    assert (P * k1(ratio)).sum().item() == pytest.approx(0.08512, abs=5e-6)
    assert (P * k3(ratio)).sum().item() == pytest.approx(0.08512, abs=5e-6)
    assert (P * k2(ratio)).sum().item() == pytest.approx(0.08009, abs=5e-6)
    small = tensor(0.4 / 0.5).log()
    assert k2(small).item() == pytest.approx(0.02490, abs=5e-6)
    assert k3(small).item() == pytest.approx(0.02686, abs=5e-6)


def test_student_and_teacher_with_tails():
    student, teacher = tensor([0.6, 0.3]).double().log(), tensor([0.5, 0.2]).double().log()
    assert coarsen(student).exp()[-1].item() == pytest.approx(0.1)
    assert reverse_kl(coarsen(student), coarsen(teacher)).item() == pytest.approx(0.1212, abs=5e-5)


@pytest.mark.parametrize("divergence", ALL)
def test_zero_between_equals_and_never_negative(divergence):
    a, b = pairs()
    assert divergence(a, a).abs().max() < 1e-12
    assert (divergence(a, b) > 0).all()


def test_directions_mirror_and_js_is_symmetric_and_bounded():
    a, b = pairs()
    assert torch.allclose(reverse_kl(a, b), forward_kl(b, a))
    assert torch.allclose(js(a, b), js(b, a))
    apart = torch.log_softmax(tensor([[500.0, 0.0], [0.0, 500.0]]), -1)
    assert js(apart[:1], apart[1:]).item() == pytest.approx(math.log(2))


def test_the_generalised_js_is_no_dial_between_the_two_kls():
    """It vanishes at both ends, where a dial would reach a KL."""
    a, b = pairs()
    for near, kl in ((GeneralisedJS(1e-6), forward_kl), (GeneralisedJS(1 - 1e-6), reverse_kl)):
        assert (near(a, b) < 1e-4 * kl(a, b)).all()
    assert torch.allclose(GeneralisedJS(0.5)(a, b), js(a, b))


@pytest.mark.parametrize("divergence", ALL)
def test_merging_outcomes_is_a_lower_bound_exact_at_the_whole(divergence):
    a, b = pairs()
    full = divergence(a, b)
    previous = torch.zeros_like(full)
    for k in range(1, 9):
        merged = divergence(coarsen(a[:, :k]), coarsen(b[:, :k]))
        assert (merged <= full + 1e-12).all() and (merged >= previous - 1e-12).all()
        previous = merged
    assert torch.allclose(previous, full)


@pytest.mark.parametrize("divergence", ALL)
def test_gradients_match_finite_differences(divergence):
    logits, teacher = torch.randn(3, 5).double().requires_grad_(), pairs(3, 5)[1]

    def merged(x):
        return divergence(coarsen(torch.log_softmax(x, -1)[:, :2]), coarsen(teacher[:, :2]))

    assert torch.autograd.gradcheck(lambda x: divergence(torch.log_softmax(x, -1), teacher), logits)
    assert torch.autograd.gradcheck(merged, logits)
    assert torch.autograd.gradcheck(lambda x: divergence(renormalise(x[:, :2]), renormalise(teacher[:, :2])), logits)


@pytest.mark.parametrize("divergence", ALL)
@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_extremes_are_finite(divergence, scale):
    logits = tensor([[scale, 0.0, -scale], [0.0, 0.0, 0.0]], requires_grad=True)
    teacher = tensor([[0.0, -math.inf, -math.inf], [-1.0, math.log(1 - math.exp(-1)), -math.inf]])
    loss = divergence(torch.log_softmax(logits, -1), teacher)
    loss.sum().backward()
    assert loss.isfinite().all() and logits.grad.isfinite().all() and (loss <= -LOG_FLOOR + 2e4).all()
    assert is_clamped(teacher).all() and not is_clamped(tensor([[-1.0, -50.0]])).any()


def test_a_full_support_has_a_tail_that_is_tiny_and_finite():
    merged = coarsen(torch.log_softmax(torch.randn(4, 7), -1))
    assert merged.isfinite().all() and (merged[:, -1].exp() < 1e-6).all()


def test_expected_gradients_of_the_estimators():
    """Descending k2 on-policy follows KL(S || R); k3 follows KL(R || S); k1 follows nothing."""
    logits = torch.randn(6).double().requires_grad_()
    reference = pairs(1, 6)[0][0]

    def gradient(value):
        return torch.autograd.grad(value, logits)[0]

    expected = [
        gradient((log_p.detach().exp() * k(log_p - reference)).sum())
        for k in (k1, k2, k3)
        for log_p in [torch.log_softmax(logits, -1)]
    ]
    assert expected[0].abs().max() < 1e-12
    assert torch.allclose(expected[1], gradient(reverse_kl(torch.log_softmax(logits, -1), reference)))
    assert torch.allclose(expected[2], gradient(forward_kl(torch.log_softmax(logits, -1), reference)))


def test_the_two_skewed_divergences_are_told_apart():
    """alpha 1/4 between S = (.7, .2, .1) and T = (.5, .3, .2). Forward: T against M = T/4 + 3S/4 = (.65, .225, .125):
    .5 log(.5/.65) + .3 log(.3/.225) + .2 log(.2/.125) = .04912. Reverse: S against M = S/4 + 3T/4 = (.55, .275, .175):
    .7 log(.7/.55) + .2 log(.2/.275) + .1 log(.1/.175) = .04917."""
    forward = 0.5 * math.log(0.5 / 0.65) + 0.3 * math.log(0.3 / 0.225) + 0.2 * math.log(0.2 / 0.125)
    reverse = 0.7 * math.log(0.7 / 0.55) + 0.2 * math.log(0.2 / 0.275) + 0.1 * math.log(0.1 / 0.175)
    assert SkewedForwardKL(0.25)(P.log(), Q.log()).item() == pytest.approx(forward, abs=1e-6)
    assert SkewedReverseKL(0.25)(P.log(), Q.log()).item() == pytest.approx(reverse, abs=1e-6)
    sure, unsure = tensor([0.98, 0.01, 0.01]).double(), tensor([0.2, 0.4, 0.4]).double()
    mixed = 0.1 * unsure + 0.9 * sure
    assert SkewedForwardKL(0.1)(sure.log(), unsure.log()).item() == pytest.approx(
        (unsure * (unsure / mixed).log()).sum().item()
    )
    assert SkewedForwardKL(0.0)(P.log(), Q.log()).item() == pytest.approx(forward_kl(P.log(), Q.log()).item())
    assert SkewedReverseKL(0.0)(P.log(), Q.log()).item() == pytest.approx(reverse_kl(P.log(), Q.log()).item())
