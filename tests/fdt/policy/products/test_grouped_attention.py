"""Attention with the query heads of a group laid out as queries, against transformers' own."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from fdt.policy.policy import Policy
from fdt.policy.products import grouped_attention
from fdt.policy.products.grouped_attention import NAME, attend_grouped


def build_inputs(length: int, width: int, dtype: torch.dtype, heads: tuple[int, int] = (6, 2)):
    torch.manual_seed(0)
    query = torch.randn(3, heads[0], length, 16, dtype=dtype, requires_grad=True)
    key, value = (torch.randn(3, heads[1], width, 16, dtype=dtype, requires_grad=True) for _ in range(2))
    module = SimpleNamespace(num_key_value_groups=heads[0] // heads[1], is_causal=True)
    return module, query, key, value


def build_mask(length: int, width: int, dtype: torch.dtype) -> torch.Tensor:
    seen = torch.rand(3, 1, length, width) > 0.5
    seen[..., 0] = True
    return torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, torch.finfo(dtype).min)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("length, width, masked", [(1, 9, False), (1, 9, True), (9, 9, True), (9, 9, False)])
def test_outputs_are_those_of_transformers(dtype: torch.dtype, length: int, width: int, masked: bool):
    module, *inputs = build_inputs(length, width, dtype)
    mask = build_mask(length, width, dtype) if masked else None
    grouped, _ = attend_grouped(module, *inputs, mask, scaling=0.3)
    plain, _ = sdpa_attention_forward(module, *inputs, mask, scaling=0.3)
    torch.testing.assert_close(grouped, plain)
    found = torch.autograd.grad(grouped.square().sum(), inputs)
    expected = torch.autograd.grad(plain.square().sum(), inputs)
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, two, atol=0.1 if dtype == torch.bfloat16 else 1e-5, rtol=0.05)


def test_what_changes_attention_is_left_to_transformers(monkeypatch: pytest.MonkeyPatch):
    asked = []
    monkeypatch.setattr(grouped_attention, "sdpa_attention_forward", lambda *_, **given: asked.append(given))
    module, *inputs = build_inputs(1, 9, torch.float32)
    attend_grouped(module, *inputs, None, position_bias=torch.zeros(1, 6, 1, 9))
    attend_grouped(module, *inputs, torch.zeros(3, 6, 1, 9))  # a mask for every head
    attend_grouped(*build_inputs(1, 9, torch.float32, heads=(6, 6)), None)
    assert len(asked) == 3


def test_a_policy_attends_in_groups_and_its_saved_config_does_not_say_so(tiny_model, tmp_path):
    policy = Policy(str(tiny_model), dtype="float32")
    assert policy.causal.config._attn_implementation == NAME
    policy.causal.config.save_pretrained(tmp_path)
    assert NAME not in (tmp_path / "config.json").read_text()
