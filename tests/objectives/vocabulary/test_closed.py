"""Closed forms of divergences are what autograd finds; two rounded products are a float32 one."""

import pytest
import torch
from torch import tensor

from objectives import TokenLogProbs, forward_kl, js, reverse_kl
from objectives.divergence import LOG_FLOOR
from objectives.losses.distillation import Distill
from objectives.vocabulary.closed import CLOSED
from objectives.vocabulary.products import multiply_rounded_twice


def pair(dtype=torch.float64, floored=False):
    """Student, teacher over 11 outcomes, 7 tokens; a teacher that rules one outcome out where asked."""
    torch.manual_seed(3)
    hidden, other = torch.randn(7, 5, dtype=dtype), torch.randn(7, 5, dtype=dtype)
    weight, taught = torch.randn(11, 5, dtype=dtype), torch.randn(11, 5, dtype=dtype)
    if floored:
        other[2] *= 400.0
    targets = torch.arange(7)
    return hidden, weight, TokenLogProbs(other, taught, targets)


@pytest.mark.parametrize("floored", [False, True])
@pytest.mark.parametrize("head_trains", [False, True])
@pytest.mark.parametrize("divergence", list(CLOSED))
def test_closed_forms_agree_with_autograd(divergence, head_trains, floored):
    found = []
    for closed in (True, False):
        hidden, weight, teacher = pair(floored=floored)
        hidden.requires_grad_()
        weight.requires_grad_(head_trains)
        student = TokenLogProbs(hidden, weight, torch.arange(7))

        def both(mine, theirs):
            return divergence(mine, theirs), theirs.amin(-1) < LOG_FLOOR

        out = student.fold_part(CLOSED[divergence], teacher) if closed else student.fold_many(both, teacher)
        (out[0] * torch.arange(1.0, 8.0, dtype=torch.float64)).sum().backward()
        found.append([*out, hidden.grad, *([weight.grad] if head_trains else [])])
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one.double(), other.double(), rtol=1e-10, atol=1e-12)
    assert found[0][1].any().item() == floored


def test_distillation_takes_the_closed_form_where_there_is_one():
    # P = [.7, .2, .1], Q = [.5, .3, .2]: KL(P || Q) = .08512; the same through the head, whose rows are unit vectors.
    def log(*p):
        return tensor([p]).log()

    heads = torch.eye(3)
    student = TokenLogProbs(log(0.7, 0.2, 0.1).requires_grad_(), heads, tensor([0]))
    teacher = TokenLogProbs(log(0.5, 0.3, 0.2), heads, tensor([0]))
    assert reverse_kl in CLOSED and forward_kl in CLOSED and js not in CLOSED
    assert Distill(k=None).compute_on_vocabulary(student, teacher)[0].item() == pytest.approx(0.08512, abs=5e-6)
    assert Distill(k=None, divergence=js).compute_on_vocabulary(student, teacher)[0].item() == pytest.approx(
        js(student.hidden, teacher.hidden).item(), abs=1e-6
    )


def test_two_rounded_products_are_a_float32_one():
    torch.manual_seed(0)
    hidden, weight = (torch.randn(40, 64) * 2).bfloat16(), torch.randn(500, 64).bfloat16()
    exact = hidden.double() @ weight.double().T
    once = (hidden @ weight.T).double()
    twice = multiply_rounded_twice(hidden, weight)
    assert twice.dtype == torch.float32
    scale = exact.abs().max()
    assert (once - exact).abs().max() > 1e-3 * scale  # what a single rounding costs
    assert (twice.double() - exact).abs().max() < 2**-16 * scale
