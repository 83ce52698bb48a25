"""Gates that need log-probs, positions or several scores; masks of the current policy; schedules."""

import math
from dataclasses import replace

import pytest
import torch
from objectives.losses.trust import Moved
from torch import nan, tensor

from objectives import (
    ClipCov,
    Every,
    IcePop,
    Imitate,
    Objective,
    OffPolicyMask,
    Plateau,
    PolicyGradient,
    ProbabilityShift,
    Ramp,
    ScoreGate,
    SequenceMask,
    SkipFirst,
    SkipLast,
    TopCovariance,
    TruncatedIS,
    reinforce,
)
from objectives.gates.covariance import compute_covariance
from tests.helpers.rollouts import rollouts, run, scored, weigh


def mismatched(weights=(0.4, 0.9, 1.5, 6.0), lengths=(4,)):
    w = tensor(weights, dtype=torch.float64)
    return rollouts(lengths, old_log_probs=w.log() - 2, engine_log_probs=torch.full_like(w, -2.0))


def close(got, expected, abs=1e-9):
    assert got.tolist() == pytest.approx(expected, abs=abs)


def test_engine_mismatch():
    batch = mismatched()
    close(TruncatedIS(2.0)(batch), [0.4, 0.9, 1.5, 2])
    close(IcePop(0.5, 5.0)(batch), [0, 0.9, 1.5, 0])
    assert math.prod((0.4, 0.9, 1.5, 6.0)) == pytest.approx(3.24)
    close(SequenceMask(high=3.0)(batch), [0, 0, 0, 0])
    close(SequenceMask(high=4.0)(batch), [3.24] * 4)
    close(SequenceMask(high=3.0)(mismatched(lengths=(3, 1))), [0.54] * 3 + [0])
    for gate in (TruncatedIS(), IcePop(), SequenceMask()):
        for missing in ("old_log_probs", "engine_log_probs"):
            with pytest.raises(ValueError, match=f"rollouts.{missing}: got None"):
                gate(replace(batch, **{missing: None}))


def test_only_acted_tokens_are_compared():
    batch = mismatched((0.4, nan, 1.5, 2.0))
    batch = replace(batch, masks=batch.masks | {"sampled": tensor([True, False, True, True])})
    close(SequenceMask()(batch), [1.2] * 4)
    close(run(PolicyGradient(gate=TruncatedIS()), scored(n=4), {}, batch).metrics["approx_kl"].isfinite()[None], [1])


@pytest.mark.parametrize("keep, share", [(True, 4), (False, 2)])
def test_masked_tokens_stay_in_the_denominator_or_leave_it(keep, share):
    batch = replace(mismatched(), advantages=torch.ones(4).double())
    student = scored(n=4)
    mix = Objective({"t": PolicyGradient(gate=IcePop(0.5, 5.0), keep_silenced=keep)})
    loss = mix(student, {}, replace(weigh(mix, batch), old_log_probs=None))
    assert loss.value.item() == pytest.approx(-(0.9 + 1.5) / share)


def test_a_factor_makes_a_token_louder_and_leaves_the_others():
    student, batch = scored(), rollouts(scores={"score": tensor([1.0, 0.5, nan]).double()})
    nll = -student.log_probs.detach()
    loss = run(Imitate(gate=ScoreGate(comparison="weight")), student, {}, batch)
    assert loss.value.item() == pytest.approx(((nll[:5].sum() + nll[5:9].sum() / 2) / 9).item())
    with pytest.raises(ValueError, match="got -1, expected at least 0"):
        ScoreGate(comparison="weight")(rollouts(scores={"score": tensor([-1.0, 0, 0])}))


def test_covariance_numbers():
    batch = rollouts((3,), advantages=tensor([2.0, -1, -1]), old_log_probs=tensor([-0.05, -1.5, -2.5]))
    close(compute_covariance(batch, None), [2.6, 0.15, 1.15], 1e-6)
    assert sorted(ClipCov(seed=s)(batch).tolist().index(0) for s in range(20))[::19] == [0, 2]
    assert ClipCov(fraction=1.0)(batch).tolist() == [0, 1, 0]
    assert TopCovariance(fraction=0.5)(batch).tolist() == [1, 0, 0]
    with pytest.raises(ValueError, match="old_log_probs: got None.*ClipCov"):
        ClipCov()(replace(batch, old_log_probs=None))


def test_skip_first_counts_within_rows_in_any_order():
    batch = rollouts((3, 2))
    assert SkipFirst(2)(batch).tolist() == [0, 0, 1, 0, 0]
    mixed = replace(batch, episode=tensor([1, 0, 1, 0, 1]))
    assert SkipFirst(1)(mixed).tolist() == [0, 0, 1, 1, 1]


def test_skip_last_counts_from_the_end_of_each_row():
    batch = rollouts((3, 2))
    assert SkipLast(2)(batch).tolist() == [1, 0, 0, 0, 0]
    mixed = replace(batch, episode=tensor([1, 0, 1, 0, 1]))
    assert SkipLast(1)(mixed).tolist() == [1, 1, 1, 0, 0]


def test_better_and_every():
    scores = {"score": tensor([0.2, 0.5, 0.1]), "revision": tensor([0.9, 0.5, nan])}
    batch = rollouts((1, 1, 1), scores=scores)
    assert ScoreGate("revision", ">", "score")(batch).tolist() == [1, 0, 0]
    assert Every([ScoreGate(), ScoreGate("revision", ">", "score")])(batch).tolist() == [1, 0, 0]
    assert Every([ScoreGate(value=0.15), ScoreGate("revision", ">", "score")])(batch).tolist() == [0, 0, 0]


def test_trust_masks():
    log_ratio, old = tensor([-1.0, -0.2, -0.9, 0.3]), tensor([-0.1, -0.5, -0.2, -0.5])
    row = tensor([0, 0, 1, 1])
    keep = OffPolicyMask(0.5)(Moved(log_ratio, old, tensor([-1.0, 1, -1, -1]), row))
    assert keep.tolist() == [False, True, True, True]
    shifted = ProbabilityShift(0.2)(Moved(log_ratio, old, tensor([-1.0, 1, 1, 1]), row))
    assert shifted.tolist() == [False, True, True, False]


def test_untrusted_tokens_teach_nothing_and_stay_counted():
    student = scored(n=4)
    old = student.log_probs.detach() + tensor([2.0, 0, 0, 0])
    batch = rollouts((2, 2), old_log_probs=old, advantages=tensor([-1.0, 1, 1, 1]).double())
    term = PolicyGradient(surrogate=reinforce, token_weight=OffPolicyMask(0.5))
    loss = run(term, student, {}, batch)
    assert loss.value.item() == pytest.approx(-3 / 4)
    assert torch.autograd.grad(loss.value, student.log_probs)[0][0] == 0


def test_ramp():
    ramp = Ramp(2.0, warmup=3, hold=2, decay=3)
    assert [ramp(n) for n in range(10)] == pytest.approx([0.5, 1, 1.5, 2, 2, 1.5, 1, 0.5, 0, 0])
    assert Ramp(1e-3)(0) == Ramp(1e-3)(10**6) == 1e-3


def test_a_scheduled_coefficient_follows_the_step():
    student, batch = scored(), rollouts()
    mix = Objective({"term": Imitate()}, {"term": Ramp(1.0, warmup=1)})
    batch = weigh(mix, batch)
    first, later = (mix(student, {}, replace(batch, update=n)) for n in (0, 5))
    assert torch.allclose(2 * first.value, later.value) and mix.get_coefficient("term") == 1
    assert torch.equal(first.metrics["loss/term"], later.metrics["loss/term"])


def test_a_plateau_resets_once_then_cools_down():
    rule = Plateau(patience=2, cooldown=2)
    history = [0.1, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3]
    fired, last = [], None
    for n in range(1, len(history) + 1):
        if rule.is_due(history[:n], last):
            fired.append(n)
            last = n
    assert fired == [4, 7]
    assert not rule.is_due([0.1, 0.2, 0.3, 0.4, 0.5]) and not rule.is_due([])
    assert rule.is_due([0.5, 0.4, 0.3])
