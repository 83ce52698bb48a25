"""Packs without a mask of their size: the log-probs and gradients of the masked ones, alone and within a model."""

from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from fdt.data.batch import View
from fdt.data.packing import pack
from fdt.policy import forward
from fdt.policy.policy import Policy, enable_checkpointing
from fdt.policy.products import grouped_attention, packed_attention
from fdt.policy.products.grouped_attention import attend_grouped
from fdt.policy.products.packed_attention import PackedMask, build_packed_mask

PROMPT, OTHER = [3, 4, 5, 6], [7, 8]
ROWS = [(PROMPT, [10, 11, 12]), (OTHER, [13]), (PROMPT, [14]), (PROMPT, [10, 11, 15, 16]), ([9], [17, 18])]


@pytest.mark.parametrize("heads", [(4, 4), (4, 2), (6, 1)])
def test_parts_are_what_one_mask_gives(heads):
    layout = pack(View.from_pairs(ROWS))
    size, (many, few) = layout.tokens.shape[1], heads
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(len(layout.tokens), count, size, 8, generator=generator, dtype=torch.float64, requires_grad=True)
        for count in (many, few, few)
    )
    weights = torch.randn(len(layout.tokens), size, many, 8, generator=generator, dtype=torch.float64)
    weights = weights * (layout.segment_ids >= 0)[:, :, None, None]
    parts, _ = attend_grouped(None, query, key, value, build_packed_mask(layout), scaling=0.3)
    whole = scaled_dot_product_attention(
        query,
        key.repeat_interleave(many // few, 1),
        value.repeat_interleave(many // few, 1),
        attn_mask=layout.build_mask(),
        scale=0.3,
    ).transpose(1, 2)
    alive = layout.segment_ids >= 0
    torch.testing.assert_close(parts[alive], whole[alive], rtol=0, atol=1e-12)
    assert not parts[~alive].any()
    for name, mine, theirs in zip(
        ("query", "key", "value"),
        torch.autograd.grad((parts * weights).sum(), (query, key, value)),
        torch.autograd.grad((whole * weights).sum(), (query, key, value)),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12, msg=name)


def compute(policy: Policy, view: View) -> tuple[torch.Tensor, torch.Tensor]:
    log_probs = policy.compute_log_probs(view).log_probs
    weights = torch.linspace(-1, 1, len(log_probs), dtype=log_probs.dtype)
    gradients = torch.autograd.grad((weights * log_probs).sum(), policy.get_trainable_parameters())
    return log_probs.detach(), torch.cat([gradient.flatten() for gradient in gradients])


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_model_reads_packs_alike_with_and_without_the_mask(tiny_model, monkeypatch, checkpointing):
    policy = Policy(tiny_model, lora=None, dtype="float32").double()
    if checkpointing:
        enable_checkpointing(policy.causal)
        policy.train()
    made = []
    monkeypatch.setattr(
        packed_attention, "build_packed_mask", lambda layout: made.append(layout) or build_packed_mask(layout)
    )
    view = View.from_pairs(ROWS)
    masked = compute(policy, view)
    assert not made, "short packs are read under a mask"
    monkeypatch.setattr(packed_attention, "LEAST", 1)
    apart = compute(policy, view)
    assert len(made) == 1
    torch.testing.assert_close(apart[0], masked[0], rtol=0, atol=1e-12)
    # The model's norms compute in float32 whatever its weights are.
    torch.testing.assert_close(apart[1], masked[1], rtol=1e-5, atol=1e-7)


def test_a_model_that_attends_in_its_own_way_gets_a_mask(tiny_model, monkeypatch):
    monkeypatch.setattr(packed_attention, "LEAST", 1)
    monkeypatch.setattr(forward, "reads_packs", lambda causal: False)
    monkeypatch.setattr(packed_attention, "build_packed_mask", lambda layout: pytest.fail("it would not be understood"))
    policy = Policy(tiny_model, lora=None, dtype="float32")
    assert policy.compute_log_probs(View.from_pairs(ROWS)).log_probs.isfinite().all()


def test_a_bias_of_the_model_s_own_is_refused_and_not_dropped():
    layout = pack(View.from_pairs(ROWS))
    states = torch.zeros(len(layout.tokens), 2, layout.tokens.shape[1], 4)
    with pytest.raises(NotImplementedError, match="bias or a cap"):
        attend_grouped(None, states, states, states, build_packed_mask(layout), softcap=30.0)


def test_the_stand_in_holds_no_pack_by_pack_table():
    """A pack of 4,096 tokens: 16 million entries under one mask, here those of one answer's sight."""
    rows = [(list(range(100)), [5] * 999) for _ in range(4)]
    layout = pack(View.from_pairs(rows))
    mask = build_packed_mask(layout)
    assert isinstance(mask, PackedMask) and mask.shape == (1, 1, 1, 1)
    assert mask.parts[0].mask.shape == (999, 1099) and layout.build_mask().numel() == 4096**2
    assert grouped_attention.reads_packs(SimpleNamespace(config=SimpleNamespace(get_text_config=lambda: None))) is False


def test_a_model_that_reads_packs_wrong_in_parts_is_not_packed(tiny_model, monkeypatch):
    """What the check at load would miss if it read short packs under a mask alone."""

    def forget_the_prompt(query, key, value, mask, dropout, scaling):
        return torch.zeros(query.shape[0], query.shape[2], query.shape[1], value.shape[3], dtype=query.dtype)

    monkeypatch.setattr(grouped_attention, "attend_packed", forget_the_prompt)
    assert not Policy(tiny_model, lora=None, dtype="float32").packs
