"""Every term at the edges: nothing, one token, extremes, silence; low precision against a float64 reference."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import tensor

from objectives import (
    ConstantLength,
    DatasetMean,
    Distill,
    EntropyBonus,
    GeneralisedJS,
    GroupRelative,
    GroupWhitened,
    Imitate,
    LeaveOneOut,
    MeanScaled,
    Objective,
    OffPolicy,
    OffPolicyMask,
    OldPolicyPenalty,
    PolicyGradient,
    PrefixTrust,
    ProbabilityShift,
    Product,
    ReferenceKL,
    SequenceMean,
    SkewedForwardKL,
    SkewedReverseKL,
    TeacherAdvantage,
    TeacherConfidence,
    TeacherScaledAdvantage,
    TokenLogProbs,
    cispo,
    forward_kl,
    geometric_ratio,
    js,
    k1,
    k3,
    reinforce,
    reverse_kl,
    sequence_ratio,
)
from tests.helpers.rollouts import from_log_probs, part, rollouts, run, scored, weigh

TERMS = {
    "clipped": PolicyGradient(dual_clip=3.0),
    "gspo": PolicyGradient(ratio=geometric_ratio, reduction=SequenceMean()),
    "product": PolicyGradient(ratio=sequence_ratio, surrogate=reinforce, token_weight=OffPolicyMask()),
    "cispo": PolicyGradient(surrogate=cispo, reduction=ConstantLength(9), token_weight=ProbabilityShift()),
    "opd": TeacherAdvantage(mask="sampled", reward_weight=1.0),
    "rlsd": TeacherScaledAdvantage(),
    "reverse": Distill(k=3),
    "forward": Distill(k=3, divergence=forward_kl, tail=False, support="student"),
    "js": Distill(k=None, divergence=js, importance=2.0, token_weight=TeacherConfidence()),
    "generalised": Distill(k=3, divergence=GeneralisedJS(0.2)),
    "skewed": Distill(k=None, divergence=SkewedForwardKL()),
    "skewed_reverse": Distill(k=None, divergence=SkewedReverseKL()),
    "imitate": Imitate(),
    "k1": ReferenceKL(estimator=k1, importance="through"),
    "k2": ReferenceKL(),
    "k3": ReferenceKL(estimator=k3),
    "near": OldPolicyPenalty(),
    "entropy": EntropyBonus(),
}
every_term = pytest.mark.parametrize("name", TERMS)


def gradient(loss, student):
    return torch.autograd.grad(loss.value, student.hidden, retain_graph=True)[0]


def models(n, v=7, **options):
    return scored(n=n, v=v, **options), {
        name: scored(n=n, v=v, seed=seed, grad=False, **options) for name, seed in (("teacher", 5), ("reference", 6))
    }


@every_term
def test_silence_is_an_exact_zero(name):
    """All marks off, a batch whose weights are all zero, and a micro-batch without this term's tokens."""
    student, others = models(9)
    batch = rollouts((5, 4), old_log_probs=student.log_probs.detach() - 0.1)
    off = {key: torch.zeros_like(mark) for key, mark in batch.masks.items()}
    row = {key: mark & (batch.episode == 0) for key, mark in batch.masks.items()}
    silent = run(TERMS[name], student, others, replace(batch, masks=off))
    assert silent.value == 0 and gradient(silent, student).eq(0).all()
    mix = Objective({"term": TERMS[name]})
    second = torch.arange(5, 9)
    lonely = part(student, second)
    loss = mix(lonely, {}, weigh(mix, replace(batch, masks=row)).take(second))
    assert loss.value == 0 and gradient(loss, lonely).eq(0).all()
    half = run(TERMS[name], student, others, replace(batch, masks=row))
    assert gradient(half, student)[5:].eq(0).all()


@every_term
@pytest.mark.parametrize("n", [1, 4])
@pytest.mark.parametrize("student_logit, other_logit", [(1e4, -1e4), (-1e4, 1e4), (1.0, -1e30), (1e4, 0.0)])
def test_extremes_are_finite(name, n, student_logit, other_logit):
    hidden = tensor([[student_logit, -student_logit, 0.0]]).repeat(n, 1).requires_grad_()
    student = TokenLogProbs(hidden, torch.eye(3), torch.zeros(n).long())
    other = TokenLogProbs(tensor([[other_logit, 0.0, 1.0]]).repeat(n, 1), torch.eye(3), torch.zeros(n).long())
    batch = rollouts((n,), old_log_probs=torch.full((n,), -1.0), advantages=torch.ones(n))
    term = replace(TERMS[name], k=2) if getattr(TERMS[name], "k", None) else TERMS[name]
    loss = run(term, student, {"teacher": other, "reference": other}, batch)
    assert loss.value.isfinite() and gradient(loss, student).isfinite().all()
    assert all(value.isfinite() for value in loss.metrics.values())
    if other_logit == -1e30 and "teacher/clamped" in loss.metrics and name != "forward":
        assert loss.metrics["teacher/clamped"] == (0 if name in ("reverse", "generalised") else 1)


FLAT = [([0.1] * 3, [0] * 3), ([0.1, 0.7, 0.3], [0, 1, 2]), ([math.nan] * 3, [0] * 3)]
GROUPED = [GroupRelative(), GroupRelative("none"), LeaveOneOut(), GroupWhitened(), MeanScaled()]


@pytest.mark.parametrize("credit", GROUPED)
@pytest.mark.parametrize("scores, tasks", FLAT)
def test_without_contrast_the_policy_gradient_is_exactly_zero(credit, scores, tasks):
    student, _ = models(12)
    batch = rollouts(
        tasks=tasks, scores={"score": tensor(scores).double()}, old_log_probs=student.log_probs.detach() - 0.2
    )
    loss = run(PolicyGradient(), student, {}, replace(batch, advantages=credit.compute_turns(batch)))
    assert loss.value == 0 and gradient(loss, student).eq(0).all()


def reference_loss(name, logits, targets, teacher, advantages, old):
    """Per-token losses written out in float64 over dense logits."""
    s, t = logits.log_softmax(-1), teacher.log_softmax(-1)
    own = s.gather(1, targets[:, None])[:, 0]
    other = t.gather(1, targets[:, None])[:, 0]
    ratio = (own - old).exp()
    if name == "clipped":
        return torch.maximum(-ratio * advantages, -ratio.clamp(0.8, 1.28) * advantages)
    if name == "reverse":
        ids = t.topk(3).indices
        p, q = s.exp().gather(1, ids), t.exp().gather(1, ids)
        p, q = (torch.cat([x, 1 - x.sum(1, keepdim=True)], 1) for x in (p, q))
        return (p * (p / q).log()).sum(1)
    if name == "full":
        return (s.exp() * (s - t)).sum(1)
    if name == "js":
        m = (s.exp() + t.exp()) / 2
        return ((s.exp() * (s - m.log())).sum(1) + (t.exp() * (t - m.log())).sum(1)) / 2
    if name == "k2":
        return (own - other).square() / 2
    return {"imitate": -own, "entropy": (s.exp() * s).sum(1)}[name]


@pytest.mark.parametrize("name", ["clipped", "reverse", "full", "js", "k2", "imitate", "entropy"])
@pytest.mark.parametrize("dtype, bound", [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_precision_against_float64(name, dtype, bound):
    term = {"full": Distill(k=None), "js": Distill(k=None, divergence=js)}.get(name, TERMS.get(name))
    student, others = models(64, v=101, d=16, dtype=dtype, scale=0.5)
    old = (student.log_probs.detach() + 0.1 * torch.randn(64)).float()
    batch = rollouts((64,), old_log_probs=old, advantages=torch.randn(64))
    loss = run(term, student, others, batch)
    exact = student.hidden.detach().double().requires_grad_()
    other = others["teacher"] if name != "k2" else others["reference"]
    logits, taught = exact @ student.weight.double().T, other.hidden.double() @ other.weight.double().T
    expected = reference_loss(name, logits, student.targets, taught, batch.advantages.double(), old.double())
    assert (loss.value - expected.mean()).abs() <= bound * expected.abs().mean()
    truth = torch.autograd.grad(expected.mean(), exact)[0]
    assert (gradient(loss, student) - truth).norm() <= bound * truth.norm()


@every_term
def test_order_of_rows_and_side_of_padding_do_not_matter(name):
    student, others = models(9)
    batch = rollouts((4, 3, 2), old_log_probs=student.log_probs.detach() - 0.1)
    whole = run(TERMS[name], student, others, batch)
    order = tensor([7, 8, 4, 5, 6, 0, 1, 2, 3])
    moved = {key: TokenLogProbs(x.hidden[order], x.weight, x.targets[order]) for key, x in others.items()}
    shuffled = run(TERMS[name], part(student, order), moved, batch.take(order))
    assert torch.allclose(shuffled.value, whole.value)
    assert torch.allclose(gradient(shuffled, student), gradient(whole, student))


@st.composite
def cuts(draw):
    """Sizes of rows, their tasks, and which rows go into which micro-batch."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))
    tasks = draw(st.lists(st.integers(0, 2), min_size=len(sizes), max_size=len(sizes)))
    piece = draw(st.lists(st.integers(0, 2), min_size=len(sizes), max_size=len(sizes)))
    return sizes, tasks, piece


@given(cuts(), st.sampled_from(sorted(TERMS)), st.integers(0, 2**16))
def test_any_cut_into_micro_batches_adds_up(cut, name, seed):
    sizes, tasks, piece = cut
    student, others = models(sum(sizes))
    random = torch.Generator().manual_seed(seed)
    marks = {key: torch.rand(sum(sizes), generator=random) < 0.7 for key in ("sampled", "distilled", "imitated")}
    batch = rollouts(sizes, tasks=tasks, seed=seed, masks=marks, old_log_probs=student.log_probs.detach() - 0.1)
    mix = Objective({"term": TERMS[name]})
    batch = weigh(mix, batch)
    whole = mix(student, others, batch)
    total, slope = 0.0, torch.zeros_like(student.hidden)
    for number in range(3):
        index = (tensor(piece)[batch.episode] == number).nonzero()[:, 0]
        theirs = {key: TokenLogProbs(x.hidden[index], x.weight, x.targets[index]) for key, x in others.items()}
        loss = mix(part(student, index), theirs, batch.take(index))
        total, slope = total + loss.value, slope + gradient(loss, student)
    assert torch.allclose(total, whole.value) and torch.allclose(slope, gradient(whole, student), atol=1e-9)


ROWS = st.lists(st.tuples(st.floats(-3, 3) | st.just(math.nan), st.integers(0, 3)), min_size=1, max_size=12)


@given(ROWS, st.randoms())
def test_credits_follow_their_rows_and_sum_to_zero(pairs, random):
    scores, task = (tensor(list(x)) for x in zip(*pairs, strict=True))
    order = torch.tensor(random.sample(range(len(pairs)), len(pairs)))
    for credit in (GroupRelative(), LeaveOneOut(), DatasetMean("std"), GroupWhitened()):
        out = credit(scores, task)
        assert out.shape == scores.shape and out.isfinite().all()
        assert torch.allclose(credit(scores[order], task[order]), out[order], atol=1e-4)
        groups = out if isinstance(credit, DatasetMean) else torch.zeros(4).index_add(0, task, out)
        assert groups.sum().abs() < 1e-3 and out[scores.isnan()].eq(0).all()


@given(st.integers(1, 6), st.integers(2, 9), st.integers(1, 9))
def test_shapes_and_bounds_of_any_support(n, v, k):
    student, others = models(n, v=v)
    ids, log_probs = student.topk(k)
    assert ids.shape == log_probs.shape == (n, min(k, v)) and (log_probs <= 0).all()
    for support in ("teacher", "student"):
        listed = run(Distill(k=k, support=support), student, others, rollouts((n,))).value
        full = run(Distill(k=None), student, others, rollouts((n,))).value
        assert -1e-9 <= listed <= full + 1e-6
    assert torch.allclose(full, student.fold(reverse_kl, others["teacher"]).mean())


def test_one_outcome_in_the_vocabulary():
    student = from_log_probs([[0.0]])
    assert (
        run(
            Distill(k=1),
            student,
            {"teacher": TokenLogProbs(tensor([[0.0]]).double(), torch.eye(1).double(), tensor([0]))},
            rollouts((1,)),
        ).value
        == 0
    )


class OnlyTargets(TokenLogProbs):
    """Has the log-probs of its targets, and refuses every further question about the vocabulary."""

    def _read_vocabulary(self, k=0, ids=None):
        raise AssertionError("more was read than the log-probs of the target tokens")

    fold_part = fold_many = _read_vocabulary


def only_targets(seed):
    def kernel(hidden, weight, targets):
        return torch.log_softmax(hidden @ weight.T, -1).gather(1, targets[:, None])[:, 0]

    full = scored(seed=seed, grad=not seed)
    return OnlyTargets(full.hidden, full.weight, full.targets, full.index, kernel)


@pytest.mark.parametrize("term", [*TERMS.values(), OffPolicy(mask="sampled")], ids=[*TERMS, "off_policy"])
def test_a_term_that_says_so_reads_nothing_but_target_tokens(term, monkeypatch):
    monkeypatch.setattr(TokenLogProbs, "select", lambda self, keep: self)  # every token has weight
    others = {"teacher": only_targets(1), "reference": only_targets(2)}
    if term.reads_distribution:
        with pytest.raises(AssertionError, match="more was read"):
            run(term, only_targets(0), others, rollouts())
    else:
        assert run(term, only_targets(0), others, rollouts()).value.requires_grad


@pytest.mark.parametrize("weight", [Product([OffPolicyMask(), TeacherConfidence()]), TeacherConfidence()])
def test_a_token_weight_that_reads_a_distribution_makes_its_term_one_that_does(weight):
    assert TeacherAdvantage(token_weight=weight).reads_distribution
    assert not TeacherAdvantage(token_weight=Product([OffPolicyMask(), PrefixTrust()])).reads_distribution
