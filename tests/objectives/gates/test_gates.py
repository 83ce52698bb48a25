"""Gates that need log-probs, positions or several scores; masks of the current policy; schedules."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nan, tensor

from objectives import (
    ClipCov,
    Every,
    IcePop,
    Imitate,
    KLAnchor,
    Objective,
    OffPolicyMask,
    Plateau,
    PolicyGradient,
    PrefixTrust,
    ProbabilityShift,
    Product,
    Ramp,
    Rollouts,
    ScoreAgreement,
    ScoreGate,
    SequenceMask,
    SkipFirst,
    SkipLast,
    TokenLogProbs,
    TopCovariance,
    TruncatedIS,
    reinforce,
)
from objectives.gates.covariance import compute_covariance
from tests.helpers.rollouts import rollouts, run, scored, weigh


class FixedLogProbs(TokenLogProbs):
    """A model that gives its targets these log-probs."""

    def __init__(self, log_probs):
        n = len(log_probs)
        super().__init__(torch.zeros(n, 1), torch.zeros(2, 1), torch.zeros(n, dtype=torch.long))
        self._log_probs = log_probs


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
    mix = Objective({"t": PolicyGradient(gate=IcePop(0.5, 5.0), keep_masked=keep)})
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
    known = {"episode": row, "task": tensor([0, 0]), "turn": row, "masks": {}, "old_log_probs": old}
    student = FixedLogProbs(old + log_ratio)
    blamed = Rollouts(advantages=tensor([-1.0, 1, -1, -1]), **known)
    assert OffPolicyMask(0.5)(student, None, blamed).tolist() == [0, 1, 1, 1]
    praised = Rollouts(advantages=tensor([-1.0, 1, 1, 1]), **known)
    assert ProbabilityShift(0.2)(student, None, praised).tolist() == [0, 1, 1, 0]


def test_trust_falls_with_what_the_teacher_would_not_have_written():
    ratio = torch.log(tensor([1.0, 0.5, 2.0, 0.25, 0.5, 1.0]))
    row = tensor([0, 0, 0, 0, 1, 1])
    batch = Rollouts(advantages=torch.zeros(6), episode=row, task=tensor([0, 0]), turn=row, masks={})
    teacher = FixedLogProbs(ratio - 3)
    weight = PrefixTrust()(FixedLogProbs(torch.full((6,), -3.0)), teacher, batch)
    # Products of min(1, T/S) over the earlier tokens of the row: 1; 1; 1 x .5; .5 x 1 | 1; .5
    close(weight, [1, 1, 0.5, 0.5, 1, 0.5], 1e-6)
    with pytest.raises(ValueError, match="a term without a teacher"):
        run(PolicyGradient(token_weight=PrefixTrust()), scored(), {}, rollouts())


def test_a_critique_that_contradicts_the_score_teaches_nothing():
    # T/S of the whole answers: 1/4, 1/4, 4, 4, 1/4, 1/4; their chances to stand: 1/4, 1/4, 1, 1, 1/4, 1/4
    ratio = torch.log(tensor([0.5, 0.5, 0.25, 4.0, 8.0, 0.5, 0.25, 0.5, 0.5]))
    row = tensor([0, 0, 1, 2, 3, 3, 4, 5, 5])
    score = tensor([1.0, 0.0, 1.0, 0.0, float("nan"), 0.5])
    batch = Rollouts(torch.zeros(9), row, row, torch.zeros(6).long(), masks={}, scores={"score": score})
    student, teacher = FixedLogProbs(torch.full((9,), -3.0)), FixedLogProbs(ratio - 3)
    found = ScoreAgreement()(student, teacher, batch)
    close(found, [0.25, 0.25, 0.75, 1, 0, 0, 1, 0.5, 0.5], 1e-6)
    both = Product([PrefixTrust(), ScoreAgreement()])
    close(both(student, teacher, batch), [0.25, 0.125, 0.75, 1, 0, 0, 1, 0.5, 0.25], 1e-6)
    assert both.needs_teacher and not Product([OffPolicyMask()]).needs_teacher
    with pytest.raises(ValueError, match="expected 'mood'"):
        ScoreAgreement("mood")(student, teacher, batch)
    with pytest.raises(ValueError, match="at least one token weight"):
        Product([])


def test_the_anchor_holds_prompts_of_which_no_answer_was_criticised():
    # Prompts 0 0 1 2 2: the first has a criticised answer beside one without, of the last one answer is imitated.
    where = tensor([0, 0, 1, 2, 2, 3, 4])
    mark = lambda *rows: torch.isin(where, tensor(rows))  # noqa: E731
    masks = {"sampled": ~mark(4), "distilled": mark(0), "imitated": mark(4)}
    batch = Rollouts(torch.zeros(7), where, where, tensor([0, 0, 1, 2, 2]), masks)
    assert where[KLAnchor().get_mask(batch)].tolist() == [2, 2, 3]


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
