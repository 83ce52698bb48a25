"""A step whose gradient is not finite changes no weight, on its own and among others."""

import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from fdt.learner import Learner
from fdt.policy.annotator_trust import AnnotatorTrust
from fdt.policy.gradients import TermGradients
from fdt.policy.optimizers import ScoreShare, SignalAdamW
from fdt.policy.teachers import Frozen
from objectives import Distill, Objective, PolicyGradient, Ramp


def learner(parameters):
    """What `Learner._step` reads of a learner: plain SGD with rate 1, a teacher that counts its updates."""
    optimizer = torch.optim.SGD(parameters, lr=1.0)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    found = SimpleNamespace(
        policy=SimpleNamespace(get_trainable_parameters=lambda: parameters),
        max_grad_norm=10.0,
        _loss_is_finite=True,
        taught=0,
        _optimizer=optimizer,
        lr_schedulers=lambda: scheduler,
    )
    found.teacher = SimpleNamespace(update=lambda policy: setattr(found, "taught", found.taught + 1))
    found._apply_step = partial(Learner._apply_step, found)
    return found


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_gradient_that_is_not_finite_is_not_applied(bad):
    one = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    other = torch.nn.Parameter(torch.tensor([3.0]))
    own = learner([one, other])
    one.grad, other.grad = torch.tensor([0.5, bad]), torch.tensor([0.25])
    norm, finite = Learner._step(own)
    assert not finite and not math.isfinite(norm)
    assert one.tolist() == [1.0, 2.0] and other.tolist() == [3.0] and own.taught == 0
    assert one.grad is None
    one.grad, other.grad = torch.tensor([0.5, 0.0]), torch.tensor([0.25])
    assert Learner._step(own)[1]
    assert one.tolist() == [0.5, 2.0] and other.tolist() == [2.75] and own.taught == 1


def test_a_loss_that_is_not_finite_is_not_applied_though_its_gradient_is():
    one = torch.nn.Parameter(torch.tensor([1.0]))
    own = learner([one])
    own._loss_is_finite = False
    one.grad = torch.tensor([0.5])
    assert Learner._step(own) == (0.5, False)
    assert one.tolist() == [1.0] and own.taught == 0 and one.grad is None


def test_a_long_gradient_is_cut_to_the_norm():
    one = torch.nn.Parameter(torch.tensor([0.0, 0.0]))
    one.grad = torch.tensor([30.0, 40.0])
    assert Learner._step(learner([one])) == (50.0, True)
    assert one.tolist() == pytest.approx([-6.0, -8.0], rel=1e-4)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_one_term_whose_gradient_is_not_finite_holds_back_the_step_of_all(bad):
    """Where each term has moments of its own, neither weights nor moments take in anything."""
    one = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    own = learner([one])
    own._optimizer = SignalAdamW([one], lr=0.1)
    own.global_step = 0
    own.objective = SimpleNamespace(active={"policy": None, "distill": None}, get_coefficient=lambda name, step: 1.0)
    metrics = SimpleNamespace(extra={})
    for last, moves in ((bad, False), (0.5, True)):
        apart = TermGradients([one], ["policy", "distill"], [])
        apart.sums = {"policy": [torch.tensor([0.5, 0.5])], "distill": [torch.tensor([0.5, last])]}
        norm, finite = Learner._step_apart(own, apart, metrics)
        assert finite == moves == math.isfinite(norm)
        assert (one.tolist() != [1.0, 2.0]) == moves == bool(own._optimizer.state) and own.taught == int(moves)


def test_a_coefficient_that_has_fallen_to_zero_leaves_its_term_without_a_gradient():
    own = learner([torch.nn.Parameter(torch.tensor([1.0]))])
    own._optimizer = SignalAdamW(own.policy.get_trainable_parameters(), lr=0.1)
    ramp = Ramp(1.0, hold=1, decay=1)
    own.objective = Objective({"policy": PolicyGradient(), "distill": Distill()}, {"distill": ramp})
    own._optimizer = SimpleNamespace(optimizer=own._optimizer, param_groups=own._optimizer.param_groups)
    step = SimpleNamespace(rollouts=SimpleNamespace(totals={"policy": 3.0, "distill": 2.0}))
    found = {}
    for own.global_step in (0, 5):
        apart = Learner._separate_gradients(own, step)
        found[own.global_step] = (apart.present, apart.absent)
    assert found == {0: (["policy", "distill"], []), 5: (["policy"], ["distill"])}


def test_trust_and_the_share_of_scores_come_back_with_a_checkpoint():
    facts = {"model": "tiny", "lora": None}

    def build():
        policy = SimpleNamespace(describe=lambda: facts, named_parameters=list)
        trainer = SimpleNamespace(training=True)
        state = {"trust": AnnotatorTrust(), "score_share": ScoreShare()}
        return SimpleNamespace(policy=policy, teacher=Frozen(), trainer=trainer, **state)

    own, resumed = build(), build()
    own.trust.counts = {"kim": (2.0, 1.0)}
    own.score_share.seen = 4.0
    checkpoint = {"state_dict": {}}
    Learner.on_save_checkpoint(own, checkpoint)
    Learner.on_load_checkpoint(resumed, checkpoint)
    assert resumed.trust.counts == {"kim": (2.0, 1.0)} and resumed.score_share.seen == 4.0
