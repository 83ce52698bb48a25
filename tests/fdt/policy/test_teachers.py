"""Teachers: whose weights score, how they move, and that the policy comes back untouched."""

import pytest
import torch

from fdt.data.batch import View
from fdt.learner import Learner
from fdt.policy.lora import LoRA
from fdt.policy.policy import Policy
from fdt.policy.teachers import EMA, Frozen, Live
from tests.helpers.batches import COEFFICIENTS, TERMS, shake

VIEW = View.from_pairs([([3, 4, 5], [10, 11]), ([7, 8], [13])])
KINDS = pytest.mark.parametrize("lora", [None, LoRA(rank=4, dropout=0.5)], ids=["full", "adapters"])


@pytest.fixture
def policy(request, tiny_model, tiny_untied_model) -> Policy:
    lora, tied = getattr(request, "param", (None, True))
    return Policy(tiny_model if tied else tiny_untied_model, lora, "float32")


def snapshot(policy: Policy) -> list[torch.Tensor]:
    return [p.detach().clone() for p in policy.get_trainable_parameters()]


@pytest.mark.parametrize("tied", [True, False])
@KINDS
def test_frozen_is_the_base_whatever_the_policy_became(tiny_model, tiny_untied_model, lora, tied):
    base = tiny_model if tied else tiny_untied_model
    policy, expected = Policy(base, lora, "float32"), Policy(base, None, "float32").compute_log_probs(VIEW)
    teacher = Frozen()
    teacher.attach(policy)
    shake(policy)
    moved = snapshot(policy)
    policy.train()
    scored = teacher(policy, VIEW)
    assert not torch.allclose(policy.eval().compute_log_probs(VIEW).log_probs, expected.log_probs)
    # Read after the policy's weights are back: a lazy head must still be the teacher's.
    assert torch.equal(scored.log_probs, expected.log_probs)
    assert torch.equal(scored.topk(5)[1], expected.topk(5)[1])
    assert all(torch.equal(a, b) for a, b in zip(moved, policy.get_trainable_parameters(), strict=True))


@KINDS
def test_teachers_hold_no_gradient_and_keep_the_mode(tiny_model, lora):
    policy = Policy(tiny_model, lora, "float32").train()
    for teacher in (Frozen(), EMA(), Live()):
        teacher.attach(policy)
        scored = teacher(policy, VIEW)
        assert not scored.log_probs.requires_grad and not any(p.requires_grad for p in teacher.parameters())
        assert policy.training
        again = teacher(policy, VIEW)
        assert torch.equal(scored.log_probs, again.log_probs)  # dropout is off


@pytest.mark.parametrize("tied", [True, False])
def test_ema_moves_by_its_rate_and_reads_its_own_head(tiny_model, tiny_untied_model, tied):
    policy = Policy(tiny_model if tied else tiny_untied_model, None, "float32")
    teacher = EMA(rate=0.25)
    teacher.attach(policy)
    start = snapshot(policy)
    shake(policy)
    teacher.update(policy)
    expected = [0.75 * a + 0.25 * b for a, b in zip(start, snapshot(policy), strict=True)]
    for copy, value in zip(teacher.copies, expected, strict=True):
        torch.testing.assert_close(copy.data, value)
    scored = teacher(policy, VIEW)
    with torch.no_grad():
        for parameter, value in zip(policy.get_trainable_parameters(), expected, strict=True):
            parameter.copy_(value)
    torch.testing.assert_close(scored.log_probs, policy.compute_log_probs(VIEW).log_probs, rtol=1e-5, atol=1e-5)


def test_ema_refuses_rates_that_are_other_teachers():
    for rate in (0.0, 1.0, -1.0):
        with pytest.raises(ValueError, match="Frozen"):
            EMA(rate)


def test_live_is_the_policy_itself(tiny_model):
    policy = Policy(tiny_model, LoRA(dropout=0.5), "float32")
    shake(policy)
    teacher = Live()
    teacher.attach(policy)
    policy.train()
    assert torch.equal(teacher(policy, VIEW).log_probs, policy.eval().compute_log_probs(VIEW).log_probs)
    assert not list(teacher.parameters())


@pytest.mark.parametrize("teacher", [Frozen(), EMA(), Live()], ids=["frozen", "ema", "live"])
@KINDS
def test_what_a_checkpoint_holds(tiny_model, teacher, lora):
    made = Learner(TERMS, COEFFICIENTS, tiny_model, lora, "float32", teacher=teacher)
    made.policy = Policy(tiny_model, lora, "float32")
    made.teacher.attach(made.policy)
    made.start = made.teacher if isinstance(teacher, Frozen) else Frozen()
    made.start.attach(made.policy)
    checkpoint = {"state_dict": made.state_dict()}
    made.on_save_checkpoint(checkpoint)
    names = set(checkpoint["state_dict"])
    trained = {name for name in names if name.startswith("policy.")}
    assert trained == {f"policy.{name}" for name, p in made.policy.named_parameters() if p.requires_grad}
    copies = {name for name in names if name.startswith("teacher.")}
    assert len(copies) == (len(made.policy.get_trainable_parameters()) if isinstance(teacher, EMA) else 0)
    assert names == trained | copies
