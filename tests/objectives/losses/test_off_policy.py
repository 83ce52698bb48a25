"""Answers that others wrote into the group: shaped probability, no ratio."""

import math

import pytest
import torch

from objectives import OffPolicy, PolicyGradient
from tests.helpers.rollouts import rollouts, run, scored

# p = 0.1 is f = 1/2 at shape 0.1, and there d f / d log p = 1/4; p = 0.9 gives f = 0.9, derivative 0.09.
WORKED = [(0.1, 0.5, 0.25), (0.9, 0.9, 0.09), (0.02, 1 / 6, 5 / 36)]


@pytest.mark.parametrize(("probability", "value", "slope"), WORKED)
def test_worked(probability, value, slope):
    log_p = torch.tensor([math.log(probability)], dtype=torch.float64, requires_grad=True)
    shaped = OffPolicy().shape_probability(log_p)
    shaped.sum().backward()
    assert shaped.item() == pytest.approx(value) and log_p.grad.item() == pytest.approx(slope)


def test_without_shape_it_is_the_log():
    log_p = torch.tensor([-2.0])
    assert OffPolicy(shape=None).shape_probability(log_p) is log_p
    with pytest.raises(ValueError, match="above 0, or null"):
        OffPolicy(shape=0.0)


def joined(*rows: bool, **fields):
    """Rows of 5, 4 and 3 tokens; those that are not joined are acted."""
    batch = rollouts(**fields)
    mark = torch.tensor(rows)[batch.episode]
    return rollouts(**fields, masks={"sampled": ~mark, "off_policy": mark, "distilled": mark, "imitated": mark})


def test_only_joined_tokens_count():
    student = scored()
    batch = joined(False, True, False)
    loss = run(OffPolicy(), student, {}, batch)
    kept = batch.episode == 1
    p = student.log_probs[kept].exp()
    assert loss.value.item() == pytest.approx(-(batch.advantages[kept] * p / (p + 0.1)).mean().item())
    assert loss.metrics["probability"].item() == pytest.approx(p.mean().item())
    loss.value.backward()
    assert not student.hidden.grad[~kept].any() and student.hidden.grad[kept].any()


def test_behaviour_is_never_asked_for():
    student, batch = scored(), joined(True, True, True)
    one, other = (
        run(OffPolicy(), student, {}, rollouts(masks=batch.masks, old_log_probs=old)).value.item()
        for old in (None, torch.full((12,), -7.0, dtype=torch.float64))
    )
    assert one == other


def test_without_shape_its_gradient_is_the_on_policy_one():
    grads = []
    for term, marks in ((OffPolicy(shape=None), joined(True, True, True).masks), (PolicyGradient(), rollouts().masks)):
        student = scored()
        run(term, student, {}, rollouts(masks=marks)).value.backward()
        grads.append(student.hidden.grad)
    torch.testing.assert_close(*grads)


def test_gradcheck():
    batch = joined(False, True, True)

    def value(hidden):
        student = scored()
        student.hidden = hidden
        return run(OffPolicy(), student, {}, batch).value

    assert torch.autograd.gradcheck(value, scored().hidden.detach().requires_grad_())


def test_nothing_joined_is_an_exact_zero():
    student = scored()
    loss = run(OffPolicy(), student, {}, joined(False, False, False))
    loss.value.backward()
    assert loss.value.item() == 0 and not student.hidden.grad.any()
