"""What a plug of one's own returns is checked where it is used: another shape would train on other tokens' numbers."""

import re
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from torch import nan, tensor

from objectives import (
    Distill,
    Gate,
    GroupRelative,
    Loss,
    Objective,
    PolicyGradient,
    Reward,
    Schedule,
    Term,
    TokenWeight,
)
from objectives.returns import check_numbers
from tests.helpers.rollouts import rollouts, run, scored

BAD_SHAPES = [[1.0], torch.ones(3), torch.ones(12, 1), torch.ones(()), None, 0.5]
"""For 12 tokens of 3 rows: lists, numbers of rows, of a column, of nothing."""


def names(value):
    """What a message says of it, as a pattern."""
    return re.escape(f"a tensor {list(value.shape)}") if isinstance(value, torch.Tensor) else type(value).__name__


def make_loss(**changes):
    """A loss as it gets out of a run, where nobody checks shapes while it is made."""
    made = Loss(torch.ones(()))
    for name, value in changes.items():
        object.__setattr__(made, name, value)
    return made


class OwnGate(Gate):
    def __init__(self, value):
        self.value = value

    def __call__(self, rollouts):
        return self.value


@dataclass(frozen=True)
class OwnWeight(TokenWeight):
    value: object

    def __call__(self, student, teacher, rollouts):
        return self.value


@dataclass(frozen=True)
class OwnReward(Reward):
    value: object

    def __call__(self, rollouts):
        return self.value


@dataclass(frozen=True)
class OwnTerm(Term):
    value: object = None

    def __call__(self, student, others, rollouts, name):
        return self.value


@dataclass(frozen=True)
class OwnSchedule(Schedule):
    value: object
    peak = 1.0

    def __call__(self, update):
        return self.value


@pytest.mark.parametrize("value", BAD_SHAPES)
def test_a_gate_gives_a_factor_for_each_token(value):
    with pytest.raises(ValueError, match=rf"test_returns.OwnGate: got {names(value)}, expected factors \[12\]"):
        PolicyGradient(gate=OwnGate(value)).weigh(rollouts())


@pytest.mark.parametrize("bad", [-0.5, nan, torch.inf])
def test_a_factor_is_finite_and_not_negative(bad):
    value = torch.ones(12)
    value[4] = bad
    with pytest.raises(ValueError, match=rf"OwnGate: got {bad:g} in 1 of 12 places, .* finite and at least 0\."):
        PolicyGradient(gate=OwnGate(value)).weigh(rollouts())
    masks = {"sampled": torch.arange(12) != 4}  # a factor that nobody reads may be anything
    assert PolicyGradient(gate=OwnGate(value)).weigh(rollouts(masks=masks))[4] == 0


@pytest.mark.parametrize("value", BAD_SHAPES)
@pytest.mark.parametrize("term", [PolicyGradient, Distill])
def test_a_token_weight_gives_a_factor_for_each_token(value, term):
    with pytest.raises(ValueError, match=rf"test_returns.OwnWeight: got {names(value)}, expected factors \[12\]"):
        run(term(token_weight=OwnWeight(value)), scored(), {"teacher": scored(seed=5, grad=False)}, rollouts())


def test_a_surrogate_keeps_one_number_for_each_token():
    with pytest.raises(ValueError, match=r"term 'term': got values \[12, 1\], expected one for each token \[12\]"):
        run(PolicyGradient(surrogate=lambda ratio, *_: ratio[:, None]), scored(), {}, rollouts())


def test_a_ratio_keeps_one_number_for_each_token():
    with pytest.raises(ValueError, match=r"sum_up: got a tensor \[\], expected log-ratios \[12\]"):
        run(PolicyGradient(ratio=sum_up), scored(), {}, rollouts())


@pytest.mark.parametrize("k", [4, None])
def test_a_divergence_keeps_one_number_for_each_token(k):
    with pytest.raises(ValueError, match=r"subtract: got a tensor \[12, (5|17)\], expected divergences \[12\]"):
        run(Distill(k=k, divergence=subtract), scored(), {"teacher": scored(seed=5, grad=False)}, rollouts())


def sum_up(log_ratio, row):
    return log_ratio.sum()


def subtract(student, teacher):
    return student - teacher


@pytest.mark.parametrize(
    "value, got",
    [
        (None, "got NoneType"),
        (torch.ones(()), "got Tensor"),
        (make_loss(value=torch.ones(12)), r"got a tensor \[12\] as value"),
        (make_loss(value=0.5), "got float as value"),
        (make_loss(metrics={"mine": torch.ones(3)}), r"got a tensor \[3\] as mine"),
    ],
)
def test_a_term_gives_a_loss_of_one_number(value, got):
    with pytest.raises(ValueError, match=rf"test_returns.OwnTerm: {got}, expected"):
        run(OwnTerm(value=value), scored(), {}, rollouts())


@pytest.mark.parametrize("value, got", [(None, "NoneType"), ("1", "str"), (nan, "nan"), (True, "True")])
def test_a_schedule_gives_a_number(value, got):
    mix = Objective({"pg": PolicyGradient()}, {"pg": OwnSchedule(value)})
    with pytest.raises(ValueError, match=f"OwnSchedule: got {got}, expected a finite number as the coefficient"):
        mix.get_coefficient("pg", 0)


@pytest.mark.parametrize("value", [[1.0, 0, 0], torch.ones(12), torch.ones(3, 1), 1.0, tensor([0.0, 1, torch.inf])])
def test_a_reward_is_one_number_a_row(value):
    with pytest.raises(ValueError, match=r"test_returns.OwnReward: got .*, expected rewards \[3\]"):
        GroupRelative(reward=OwnReward(value)).compute_rows(rollouts())
    absent = OwnReward(tensor([0.0, 1.0, nan]))
    assert GroupRelative("none", reward=absent).compute_rows(rollouts()).tolist() == [-0.5, 0.5, 0.0]


def test_a_plug_of_ours_is_named_without_its_module():
    with pytest.raises(ValueError, match=r"^SimpleNamespace|^types.SimpleNamespace"):
        check_numbers(None, (1,), SimpleNamespace(), "numbers")
    with pytest.raises(ValueError, match="^PolicyGradient: got NoneType"):
        check_numbers(None, (1,), PolicyGradient(), "numbers")
