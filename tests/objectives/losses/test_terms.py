"""Terms and their mix: worked numbers, masking, splitting, empty streams."""

import math
from dataclasses import replace

import pytest
import torch
from torch import tensor

from objectives import (
    All,
    ConstantLength,
    Distill,
    Imitate,
    Objective,
    PolicyGradient,
    PositiveAdvantage,
    ReferenceKL,
    ScoreGate,
    SequenceMean,
    TokenLogProbs,
    TokenMean,
    TurnMean,
    cispo,
    forward_kl,
    geometric_ratio,
    js,
    k3,
    reinforce,
    reverse_kl,
    sequence_ratio,
)
from objectives.losses.term import average_weighted
from tests.helpers.rollouts import from_log_probs, part, rollouts, run, scored, weigh

TERMS = {
    "pg": PolicyGradient(),
    "gspo": PolicyGradient(ratio=geometric_ratio, reduction=SequenceMean(), clip_low=3e-4, clip_high=4e-4),
    "cispo": PolicyGradient(surrogate=cispo, clip_high=4.0, reduction=ConstantLength(20)),
    "truncated": PolicyGradient(surrogate=reinforce, truncate=1.1),
    "distill": Distill(k=4),
    "full": Distill(k=None, divergence=js),
    "student": Distill(k=4, support="student", tail=False, divergence=forward_kl),
    "imitate": Imitate(reduction=SequenceMean()),
    "reference": ReferenceKL(gate=PositiveAdvantage()),
}


def world(**fields):
    """Student, others and rollouts of three rows; the teacher has not seen tokens 2, 3 and 7."""
    student = scored()
    taught = torch.ones(12, dtype=torch.bool)
    taught[tensor([2, 3, 7])] = False
    index = taught.nonzero()[:, 0]
    teacher = scored(seed=5, grad=False).select(index)
    old = student.log_probs.detach() + 0.3 * torch.randn(12).double()
    everywhere = torch.ones(12, dtype=torch.bool)
    acted = everywhere.clone()
    acted[8] = False
    given = {"old_log_probs": old, "masks": {"sampled": acted, "distilled": taught, "imitated": acted}}
    return student, {"teacher": teacher, "reference": scored(seed=6, grad=False)}, rollouts(**given | fields)


def gradient(loss, student):
    return torch.autograd.grad(loss.value, student.hidden, retain_graph=True)[0]


def pg(log_ratio, advantages, term, lengths=None, log_probs=None):
    """Per-row losses of a policy gradient on tokens with these log ratios."""
    n = len(log_ratio)
    log_probs = torch.full((n,), -1.0).double() if log_probs is None else log_probs
    pairs = torch.stack([log_probs, torch.log1p(-log_probs.exp())], -1)
    student = from_log_probs(pairs)
    old = student.log_probs.detach() - log_ratio.double()
    batch = rollouts(lengths or (n,), advantages=advantages.double(), old_log_probs=old)
    return student, run(term, student, {}, batch)


def test_clip_numbers():
    ratios = tensor([0.1, -0.2, 0.4])
    for sign, expected in ((1.0, [1.105, 0.819, 1.28]), (-1.0, [-1.105, -0.819, -1.492])):
        for i, value in enumerate(expected):
            loss = pg(ratios[i : i + 1], tensor([sign]), PolicyGradient())[1]
            assert -loss.value.item() == pytest.approx(value, abs=5e-4)
    _, loss = pg(ratios, torch.ones(3), PolicyGradient(ratio=geometric_ratio))
    assert -loss.value.item() == pytest.approx(1.1052, abs=5e-5)
    _, loss = pg(ratios, torch.ones(3), PolicyGradient(ratio=sequence_ratio, surrogate=reinforce))
    assert -loss.value.item() == pytest.approx(math.exp(0.3))


def test_cispo_numbers():
    student, loss = pg(
        tensor([math.log(6)]),
        tensor([0.5]),
        PolicyGradient(surrogate=cispo, clip_high=4.0),
        log_probs=tensor([-0.3]).double(),
    )
    assert loss.value.item() == pytest.approx(0.75)
    to_log_prob = torch.autograd.grad(loss.value, student.log_probs)[0]
    assert to_log_prob.item() == pytest.approx(-2.5)


def test_reductions():
    advantages = tensor([1.0, 1.0] + [-1.0] * 8)
    for reduction, expected in ((SequenceMean(), 0.0), (TokenMean(), -0.6), (ConstantLength(10), -0.3)):
        _, loss = pg(torch.zeros(10), advantages, PolicyGradient(reduction=reduction), lengths=(2, 8))
        assert -loss.value.item() == pytest.approx(expected, abs=1e-12)


def test_every_step_weighs_the_same():
    student, _, batch = world(old_log_probs=None)
    batch = replace(batch, turn=tensor([0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 3, 3]), advantages=torch.ones(12).double())
    weights = PolicyGradient(reduction=TurnMean()).weigh(batch)
    sums = torch.zeros(4).double().index_add(0, batch.turn, weights)
    assert sums.tolist() == pytest.approx([1, 1, 1, 1]) and weights[8] == 0
    loss = run(PolicyGradient(reduction=TurnMean(), surrogate=reinforce), student, {}, batch)
    assert loss.value.item() == pytest.approx(-1)


def test_metrics_of_the_policy_gradient():
    _, loss = pg(tensor([0.1, -0.2, 0.4, 0.4]), tensor([1.0, 1, 1, -1]), PolicyGradient())
    assert loss.metrics["clip_fraction"].item() == 0.25
    assert loss.metrics["ratio_max"].item() == pytest.approx(math.exp(0.4))
    assert loss.metrics["ratio_min"].item() == pytest.approx(math.exp(-0.2))
    expected = sum(math.expm1(x) - x for x in (0.1, -0.2, 0.4, 0.4)) / 4
    assert loss.metrics["approx_kl"].item() == pytest.approx(expected)


def test_truncation_caps_the_weight_and_keeps_the_gradient():
    student, loss = pg(tensor([3.0]), tensor([-1.0]), PolicyGradient(truncate=2.0))
    assert loss.value.item() == pytest.approx(2.0)
    assert torch.autograd.grad(loss.value, student.log_probs)[0].item() == pytest.approx(2.0)


def test_geometric_ratio_at_length_one_is_the_token_ratio():
    student, others, batch = world()
    alone = replace(batch, episode=torch.arange(12), task=torch.zeros(12).long(), lengths=None)
    a, b = (run(PolicyGradient(ratio=r), student, others, alone) for r in (geometric_ratio, PolicyGradient().ratio))
    assert torch.allclose(a.value, b.value) and torch.allclose(gradient(a, student), gradient(b, student))


def test_on_policy_without_old_log_probs_is_reinforce():
    student, others, batch = world(old_log_probs=None)
    loss = run(PolicyGradient(), student, others, batch)
    acted = batch.masks["sampled"]
    reinforce = -(batch.advantages * student.log_probs)[acted].mean()
    assert torch.allclose(gradient(loss, student), torch.autograd.grad(reinforce, student.hidden)[0])
    assert loss.metrics["approx_kl"] == 0 and loss.metrics["ratio_max"] == 1


# The surrogates that hold a weight constant are not the derivative of their value; their gradients are worked above.
@pytest.mark.parametrize("name", sorted(TERMS.keys() - {"cispo", "truncated"}))
def test_gradcheck(name):
    student, others, batch = world()
    mix = Objective({"term": TERMS[name]})
    batch = weigh(mix, batch)
    ids = student.topk(4)[0]

    def value(hidden):
        changed = TokenLogProbs(hidden, student.weight, student.targets)
        assert torch.equal(changed.topk(4)[0], ids)
        return mix(changed, others, batch).value

    assert torch.autograd.gradcheck(value, student.hidden, eps=1e-7, atol=1e-6)


@pytest.mark.parametrize("name", TERMS)
def test_micro_batches_and_ranks_add_up(name):
    student, others, batch = world()
    mix = Objective({name: TERMS[name]}, {name: 0.7})
    batch = weigh(mix, batch)
    whole = mix(student, others, batch)
    parts = [(batch.episode == row).nonzero()[:, 0] for row in range(3)]
    losses = []
    for index in parts:
        theirs = {}
        for key, other in others.items():
            held = torch.isin(other.index, index).nonzero()[:, 0]
            theirs[key] = other.select(held)
            theirs[key].index = torch.searchsorted(index, theirs[key].index)
        losses.append(mix(part(student, index), theirs, batch.take(index)))
    assert torch.allclose(sum(x.value for x in losses), whole.value)
    total = sum(gradient(x, student) for x in losses)
    assert torch.allclose(total, gradient(whole, student), atol=1e-12)
    for key, metric in whole.metrics.items():
        values = torch.stack([x.metrics[key] for x in losses])
        joined = values.amin() if key.endswith("_min") else values.amax() if key.endswith("_max") else values.sum()
        assert torch.allclose(joined, metric, atol=1e-12), key
    halves = [weigh(mix, batch.take(index)).totals[name] for index in (parts[0], torch.cat(parts[1:]))]
    assert sum(halves) == pytest.approx(batch.totals[name])


@pytest.mark.parametrize("name", TERMS)
def test_masking_equals_dropping_and_garbage_behind_the_mask_changes_nothing(name):
    student, others, batch = world()
    gone = batch.episode == 1
    marks = {key: mark & ~gone for key, mark in batch.masks.items()}
    dirty = {"advantages": batch.advantages.clone(), "old_log_probs": batch.old_log_probs.clone()}
    for value in dirty.values():
        value[gone] = math.nan
    masked = run(TERMS[name], student, others, replace(batch, masks=marks, **dirty))
    index = (~gone).nonzero()[:, 0]
    theirs = {}
    for key, other in others.items():
        theirs[key] = other.select(torch.isin(other.index, index).nonzero()[:, 0])
        theirs[key].index = torch.searchsorted(index, theirs[key].index)
    dropped = run(TERMS[name], part(student, index), theirs, batch.take(index))
    assert torch.allclose(masked.value, dropped.value)
    assert torch.allclose(gradient(masked, student), gradient(dropped, student), atol=1e-12)


@pytest.mark.parametrize("name", TERMS)
def test_nothing_marked_is_an_exact_zero_on_the_graph(name):
    student, others, batch = world()
    empty = replace(batch, masks={key: torch.zeros_like(mark) for key, mark in batch.masks.items()})
    for present in (others, {}):
        loss = run(TERMS[name], student, present, empty)
        assert loss.value == 0 and all(v in (0, 1) for v in loss.metrics.values())
        assert gradient(loss, student).abs().max() == 0


def test_an_empty_micro_batch_has_the_metrics_of_a_full_one():
    student, others, batch = world()
    for term in TERMS.values():
        full = run(term, student, others, batch)
        none = run(term, student, {}, replace(batch, masks={k: torch.zeros_like(v) for k, v in batch.masks.items()}))
        assert set(full.metrics) == set(none.metrics)


def test_distill_equals_the_plain_divergence():
    student, others, batch = world()
    s, t = (torch.log_softmax(x.hidden @ x.weight.T, -1) for x in (student, others["teacher"]))
    expected = reverse_kl(s[others["teacher"].index], t).mean()
    for term in (Distill(k=None), Distill(k=17), Distill(k=17, support="student", tail=False)):
        loss = run(term, student, others, batch)
        assert torch.allclose(loss.value, expected)
    gain = others["teacher"].log_probs - student.log_probs[others["teacher"].index]
    assert torch.allclose(loss.metrics["teacher/log_ratio"], gain.mean())
    top = run(Distill(k=4), student, others, batch)
    assert torch.allclose(top.metrics["teacher/tail_mass"], 1 - t.topk(4).values.exp().sum(-1).mean())


def test_the_gradient_of_reverse_kl_is_that_of_the_sampled_token_advantage():
    """E over tokens of -(log T - log S) grad log S = grad KL(S || T)."""
    logits = torch.randn(5).double().requires_grad_()
    teacher = torch.log_softmax(torch.randn(5).double(), -1)
    s = torch.log_softmax(logits, -1)
    sampled = -(s.detach().exp() * (teacher - s).detach() * s).sum()
    assert torch.allclose(
        *(torch.autograd.grad(x, logits, retain_graph=True)[0] for x in (sampled, reverse_kl(s, teacher)))
    )


def test_imitation_is_cross_entropy():
    student, others, batch = world()
    loss = run(Imitate(), student, others, batch)
    shown = batch.masks["imitated"]
    logits = student.hidden @ student.weight.T
    assert torch.allclose(loss.value, torch.nn.functional.cross_entropy(logits[shown], student.targets[shown]))


def test_reference_kl_estimators():
    student, others, batch = world()
    acted = batch.masks["sampled"]
    ratio = (student.log_probs - others["reference"].log_probs)[acted]
    assert torch.allclose(run(ReferenceKL(), student, others, batch).value, (ratio**2 / 2).mean())
    assert torch.allclose(run(ReferenceKL(estimator=k3), student, others, batch).value, k3(ratio).mean())


def test_gates():
    batch = rollouts(scores={"score": tensor([1.0, 0.2, math.nan])})
    rows = batch.episode
    assert All()(batch).eq(1).all()
    assert torch.equal(ScoreGate()(batch), (rows == 1).double())
    assert torch.equal(ScoreGate(comparison=">=", value=0.1)(batch), (rows < 2).double())
    assert torch.equal(PositiveAdvantage()(batch), (batch.advantages > 0).double())
    with pytest.raises(ValueError, match=r"got \['score'\], expected 'tests_pass'"):
        ScoreGate(score="tests_pass")(batch)


def test_a_gate_is_only_a_change_of_weights():
    student, others, batch = world(scores={"score": tensor([1.0, 0.0, 1.0])})
    gated = run(Distill(k=4, gate=ScoreGate()), student, others, batch)
    marks = batch.masks | {"distilled": batch.masks["distilled"] & (batch.episode == 1)}
    marked = run(Distill(k=4), student, others, replace(batch, masks=marks))
    assert torch.allclose(gated.value, marked.value)


def test_a_mix_is_the_weighted_sum_and_terms_do_not_dilute_each_other():
    student, others, batch = world()
    mix = Objective(
        {"pg": PolicyGradient(), "distill": Distill(k=4), "off": ReferenceKL()}, {"distill": 0.3, "off": 0.0}
    )
    loss = mix(student, others, weigh(mix, batch))
    alone = {name: run(mix.terms[name], student, others, batch).value for name in ("pg", "distill")}
    assert torch.allclose(loss.value, alone["pg"] + 0.3 * alone["distill"])
    assert torch.allclose(loss.metrics["loss/distill"], alone["distill"]) and "loss/off" not in loss.metrics
    assert mix.needs == {"teacher"}
    fewer = replace(batch, masks=batch.masks | {"distilled": batch.masks["distilled"] & (batch.episode == 1)})
    assert torch.allclose(mix(student, others, weigh(mix, fewer)).metrics["loss/pg"], alone["pg"])


def test_two_terms_of_a_kind_keep_both_metrics():
    student, others, batch = world()
    mix = Objective({"a": Distill(k=4), "b": Distill(k=2)})
    assert {"teacher/tail_mass", "teacher/tail_mass/b"} <= set(mix(student, others, weigh(mix, batch)).metrics)


def test_refusals_say_what_to_do():
    student, others, batch = world()
    with pytest.raises(ValueError, match=r"got \['distil'\], expected names among \['distill'\]"):
        Objective({"distill": Distill()}, {"distil": 1.0})
    with pytest.raises(ValueError, match="no log-prob for 9 of 9 tokens"):
        run(Distill(), student, {}, batch)
    with pytest.raises(ValueError, match="probability 1"):
        Distill(k=1, tail=False)
    with pytest.raises(ValueError, match="PolicyGradient.mask: got 'act'"):
        run(PolicyGradient(mask="act"), student, others, batch)
    with pytest.raises(ValueError, match="got log-probs of 3 tokens, expected the micro-batch's 12"):
        run(Imitate(), part(student, torch.arange(3)), others, batch)


def test_one_token_and_a_long_way_off():
    student = from_log_probs([[1e4, -1e4]], targets=[1])
    batch = rollouts((1,), old_log_probs=tensor([-1.0]).double(), advantages=tensor([1.0]).double())
    teacher = from_log_probs([[-1e4, 1e4]], targets=[1])
    teacher.hidden = teacher.hidden.detach()
    for term in TERMS.values():
        loss = run(term, student, {"teacher": teacher, "reference": teacher}, batch)
        assert loss.value.isfinite() and gradient(loss, student).isfinite().all()


def test_rollouts_take_and_move():
    batch = weigh(Objective({"pg": PolicyGradient()}), rollouts())
    taken = batch.take(tensor([0, 6])).to("cpu")
    assert taken.episode.tolist() == [0, 1] and taken.lengths.tolist() == [5, 4, 3] and len(taken.weights["pg"]) == 2
    assert taken.old_log_probs is None and taken.totals == batch.totals


@pytest.mark.parametrize("support", ["student", "teacher"])
@pytest.mark.parametrize("lead", [20.0, 60.0, 200.0])
def test_a_student_that_is_surely_wrong_keeps_value_and_gradient(support, lead):
    """In float32. The student's likeliest outcome leads by 20 nats and more, so that 1 - its probability is rounding;
    the teacher gives it 1/4 and each of the other three 1/4. KL(T || S) of (listed, rest), with S(rest) = 3 e^-lead:
    1/4 log(1/4) + 3/4 (log 3/4 - log 3 + lead); d/d lead is 3/4, the teacher's mass of the rest, and the other logits
    share -3/4 alike. The teacher's own first outcome is the lead too (1/4 + a hair).
    """
    hidden = torch.zeros(1, 4, dtype=torch.float32)
    hidden[0, 0] = lead
    hidden.requires_grad_()
    taught = tensor([[1e-4, 0.0, 0.0, 0.0]])
    student = TokenLogProbs(hidden, torch.eye(4), tensor([0]))
    teacher = TokenLogProbs(taught, torch.eye(4), tensor([0]))
    losses, _, _ = Distill(k=1, divergence=forward_kl, support=support).compute_on_support(student, teacher, 1)
    expected = 0.25 * math.log(0.25) + 0.75 * (math.log(0.75) - math.log(3) + lead)
    assert losses.item() == pytest.approx(expected, rel=1e-3)
    (slope,) = torch.autograd.grad(losses.sum(), hidden)
    assert slope[0].tolist() == pytest.approx([0.75, -0.25, -0.25, -0.25], abs=1e-3)


def test_a_nan_without_weight_is_in_no_sum():
    known = rollouts((2,), weights={"own": tensor([1.0, 0.0])}, totals={"own": 2.0})
    assert average_weighted(tensor([3.0, math.nan]), known, "own").item() == 1.5
