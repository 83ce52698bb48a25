"""The same tensors through TRL's losses, written independently of ours: norm-wise 1e-5 in float32."""

import os
from collections import defaultdict
from types import SimpleNamespace

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import pytest
import torch
from torch import tensor
from trl.experimental.gkd.gkd_trainer import GKDTrainer
from trl.experimental.sdpo import loss_utils
from trl.trainer.grpo_trainer import GRPOTrainer

from objectives import (
    ConstantLength,
    Distill,
    EntropyBonus,
    GeneralisedJS,
    Objective,
    OffPolicyMask,
    PerReward,
    PolicyGradient,
    ReferenceKL,
    Rollouts,
    SequenceMean,
    TeacherAdvantage,
    TokenLogProbs,
    TruncatedIS,
    cispo,
    forward_kl,
    geometric_ratio,
    js,
    k3,
    reverse_kl,
)
from tests.helpers.rollouts import weigh

B, T, D, V, LONGEST = 4, 6, 8, 23, 10
LENGTHS = tensor([6, 2, 4, 3])
MASK = torch.arange(T) < LENGTHS[:, None]


@pytest.fixture
def world():
    """Padded hidden states [B, T, D], one head, behaviour, engine and reference log-probs, advantages that clip."""
    hidden = torch.randn(B, T, D)
    weight = torch.randn(V, D)
    ids = torch.randint(V, (B, T))
    log_probs = torch.log_softmax(hidden @ weight.T, -1).gather(-1, ids[..., None])[..., 0]
    old, engine = (log_probs + scale * torch.randn(B, T) for scale in (0.3, 0.4))
    start = hidden + 0.2 * torch.randn(B, T, D)
    reference = torch.log_softmax(start @ weight.T, -1).gather(-1, ids[..., None])[..., 0]
    return SimpleNamespace(
        hidden=hidden.requires_grad_(),
        weight=weight,
        ids=ids,
        old=old,
        engine=engine,
        start=start,
        reference=reference,
        advantages=tensor([1.0, -0.7, 0.4, -1.2]),
        teacher=torch.randn(B, T, D),
    )


def theirs(world, loss_type, **options):
    """TRL's GRPO loss on these tensors, called on a stand-in that has only what the loss reads."""
    logits = world.hidden @ world.weight.T
    entropy = -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1)
    log_probs = logits.log_softmax(-1).gather(-1, world.ids[..., None])[..., 0]
    accelerator = SimpleNamespace(
        num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x, sync_gradients=False
    )
    args = SimpleNamespace(delta=None, use_bias_correction_kl=False, steps_per_generation=1)
    trainer = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *_, **__: (log_probs, entropy, None),
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        importance_sampling_level="token",
        beta=0.0,
        epsilon_low=0.2,
        epsilon_high=0.28,
        use_vllm=False,
        vllm_importance_sampling_correction=True,
        args=args,
        aux_loss_enabled=False,
        model=SimpleNamespace(training=True),
        current_gradient_accumulation_steps=1,
        max_completion_length=LONGEST,
        accelerator=accelerator,
        _entropy_bonus_enabled=False,
        entropy_coef=0.0,
        use_adaptive_entropy=False,
        _metrics=defaultdict(lambda: defaultdict(list)),
        loss_type=loss_type,
        get_off_policy_mask=GRPOTrainer.get_off_policy_mask,
    )
    for name, value in options.items():
        setattr(args if hasattr(args, name) else trainer, name, value)
    inputs = {
        "prompt_ids": world.ids[:, :1],
        "prompt_mask": torch.ones(B, 1),
        "completion_ids": world.ids,
        "completion_mask": MASK.float(),
        "advantages": world.advantages,
        "old_per_token_logps": world.old,
        "ref_per_token_logps": world.reference,
        "num_items_in_batch": MASK.sum(),
        "importance_sampling_ratio": (world.old - world.engine).exp().clamp(max=2.0),
    }
    return GRPOTrainer._compute_loss(trainer, None, inputs)


def ours(world, mix):
    """The same tokens without padding."""
    row = torch.arange(B)[:, None].expand(B, T)[MASK]
    everywhere = torch.ones(len(row), dtype=torch.bool)
    batch = Rollouts(
        advantages=world.advantages[row],
        turn=row,
        episode=row,
        task=torch.zeros(B).long(),
        old_log_probs=world.old[MASK],
        engine_log_probs=world.engine[MASK],
        masks={"sampled": everywhere, "distilled": everywhere},
    )
    student = TokenLogProbs(world.hidden[MASK], world.weight, world.ids[MASK])
    teacher = TokenLogProbs(world.teacher[MASK], world.weight, world.ids[MASK])
    reference = TokenLogProbs(world.start[MASK], world.weight, world.ids[MASK])
    return mix(student, {"teacher": teacher, "reference": reference}, weigh(mix, batch)).value


def same(world, mine, other):
    """Value and gradient agree, norm-wise."""
    slopes = [torch.autograd.grad(x, world.hidden, retain_graph=True)[0] for x in (mine, other)]
    for a, b in ((mine, other), slopes):
        assert (a - b).norm() <= 1e-5 * b.norm().clamp(min=1e-3)
        assert b.norm() > 0


GRPO = PolicyGradient(reduction=SequenceMean())
LOSSES = {
    "grpo": (GRPO, {}),
    "dr_grpo": (PolicyGradient(reduction=ConstantLength(LONGEST)), {}),
    "dapo": (PolicyGradient(), {}),
    "bnpo": (PolicyGradient(), {}),
    # TRL bounds the ratio by epsilon_high itself; ours by 1 + clip_high, as in every other surrogate.
    "cispo": (PolicyGradient(surrogate=cispo, clip_high=0.1), {"epsilon_high": 1.1}),
}


@pytest.mark.parametrize("name", LOSSES)
def test_policy_losses(world, name):
    term, options = LOSSES[name]
    same(world, ours(world, Objective({"pg": term})), theirs(world, name, **options))


def test_gspo(world):
    term = PolicyGradient(ratio=geometric_ratio, reduction=SequenceMean(), clip_low=0.1, clip_high=0.15)
    options = {"importance_sampling_level": "sequence", "epsilon_low": 0.1, "epsilon_high": 0.15}
    same(world, ours(world, Objective({"pg": term})), theirs(world, "grpo", **options))


def test_dual_clip(world):
    world.old = world.old - 0.3
    term = PolicyGradient(dual_clip=1.5, reduction=SequenceMean())
    same(world, ours(world, Objective({"pg": term})), theirs(world, "grpo", delta=1.5))


def test_truncated_importance_sampling(world):
    term = PolicyGradient(gate=TruncatedIS(2.0), keep_masked=True)
    same(world, ours(world, Objective({"pg": term})), theirs(world, "dapo", use_vllm=True))


def test_off_policy_sequences(world):
    world.old = world.old + 0.5
    # TRL keeps masked rows in the mean over rows, as ours does.
    term = PolicyGradient(token_weight=OffPolicyMask(0.4), reduction=SequenceMean())
    same(world, ours(world, Objective({"pg": term})), theirs(world, "grpo", off_policy_mask_threshold=0.4))


@pytest.mark.parametrize("corrected", [False, True])
def test_reference_kl(world, corrected):
    kl = ReferenceKL(estimator=k3, importance="through" if corrected else "none", reduction=SequenceMean())
    mix = Objective({"pg": GRPO, "kl": kl}, {"kl": 0.1})
    same(world, ours(world, mix), theirs(world, "grpo", beta=0.1, use_bias_correction_kl=corrected))


def test_entropy_bonus(world):
    mix = Objective({"pg": PolicyGradient(), "entropy": EntropyBonus()}, {"entropy": 0.05})
    same(world, ours(world, mix), theirs(world, "dapo", _entropy_bonus_enabled=True, entropy_coef=0.05))


DIVERGENCES = [(0.0, forward_kl), (1.0, reverse_kl), (0.5, js), (0.3, GeneralisedJS(0.3))]


@pytest.mark.parametrize("alpha, divergence", DIVERGENCES)
@pytest.mark.parametrize("tail", [True, False])
def test_sdpo(world, alpha, divergence, tail):
    logits = world.hidden @ world.weight.T, world.teacher @ world.weight.T
    options = {"distillation_alpha": alpha, "distillation_topk": 5, "distillation_add_tail": tail}
    listed = loss_utils.compute_topk_self_distillation_loss(*logits, **options)
    term = Distill(divergence=divergence, k=5, support="student", tail=tail)
    same(world, ours(world, Objective({"d": term})), listed[MASK].mean())
    full = loss_utils.compute_full_logit_self_distillation_loss(*logits, distillation_alpha=alpha)
    same(world, ours(world, Objective({"d": Distill(divergence=divergence, k=None)})), full[MASK].mean())


def test_sdpo_importance(world):
    logits = world.hidden @ world.weight.T, world.teacher @ world.weight.T
    losses = loss_utils.compute_full_logit_self_distillation_loss(*logits, distillation_alpha=1.0)
    log_probs = logits[0].log_softmax(-1).gather(-1, world.ids[..., None])[..., 0]
    losses = loss_utils.apply_importance_sampling_clipping(losses, log_probs, world.old, 1.2)
    same(world, ours(world, Objective({"d": Distill(k=None, importance=1.2)})), losses[MASK].mean())


def test_sdpo_on_the_sampled_token(world):
    """TRL's loss has no ratio. On-policy ours is 1 and gradients agree; values differ: ours -A, TRL's -A log p."""
    logits = world.hidden @ world.weight.T, world.teacher @ world.weight.T
    losses = loss_utils.compute_sampled_token_self_distillation_loss(*logits, world.ids, distillation_alpha=1.0)
    world.old = logits[0].log_softmax(-1).gather(-1, world.ids[..., None])[..., 0].detach()
    got, expected = (
        torch.autograd.grad(x, world.hidden)[0]
        for x in (ours(world, Objective({"d": TeacherAdvantage()})), losses[MASK].mean())
    )
    assert (got - expected).norm() <= 1e-5 * expected.norm()


@pytest.mark.parametrize("beta, divergence", DIVERGENCES)
def test_generalised_jsd(world, beta, divergence):
    logits = world.hidden @ world.weight.T, world.teacher @ world.weight.T
    labels = torch.where(MASK, 1, -100)
    # TRL's batchmean divides the sum over tokens by the number of tokens too.
    expected = GKDTrainer.generalized_jsd_loss(*logits, labels=labels, beta=beta)
    same(world, ours(world, Objective({"d": Distill(divergence=divergence, k=None)})), expected)


def test_gdpo():
    """TRL's normalise-then-sum, written out: deviations with ddof 1 and 1e-4 added, then whitened."""
    rewards = torch.rand(8, 2)
    grouped = rewards.view(2, 4, 2)
    each = ((grouped - grouped.mean(1, True)) / (grouped.std(1, keepdim=True) + 1e-4)).view(8, 2)
    summed = (each * tensor([1.0, 0.5])).sum(1)
    expected = (summed - summed.mean()) / (summed.std() + 1e-4)
    task = tensor([0] * 4 + [1] * 4)
    batch = Rollouts(torch.zeros(8), task, torch.arange(8), task, {}, scores={"a": rewards[:, 0], "b": rewards[:, 1]})
    assert torch.allclose(PerReward({"a": 1.0, "b": 0.5}, ddof=1, eps=1e-4).compute_rows(batch), expected, atol=1e-6)
