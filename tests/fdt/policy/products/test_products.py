"""Adapters in the base's dtype over float32 masters: PEFT's function, its gradients, and fewer kept activations."""

import pytest
import torch
from peft.tuners.lora.layer import Linear as PeftLinear
from torch import nn

from fdt.data.batch import View
from fdt.engines import HuggingFace
from fdt.policy.lora import LoRA
from fdt.policy.policy import Policy
from fdt.policy.products.adapted_linear import AdaptedLinear
from fdt.policy.products.frozen_linear import can_lay_out
from fdt.policy.products.fused_linear import FusedProduct, Slot

ROWS = [([1, 2, 3, 4], [5, 6, 7]), ([1, 2, 3, 4], [8, 9]), ([7, 8], [9, 10, 11, 12])]


def build(folder: str, dtype: str) -> Policy:
    policy = Policy(folder, LoRA(rank=4), dtype)
    torch.manual_seed(3)
    with torch.no_grad():
        for weight in policy.get_trainable_parameters():
            weight.normal_(std=0.05)
    return policy


def score(policy: Policy) -> tuple[torch.Tensor, list[torch.Tensor]]:
    policy.zero_grad()
    found = policy.compute_log_probs(View.from_pairs(ROWS)).log_probs
    found.sum().backward()
    return found.detach().float(), [w.grad.clone() for w in policy.get_trainable_parameters()]


def as_peft(policy: Policy) -> None:
    for module in policy.modules():
        if isinstance(module, AdaptedLinear):
            module.__class__ = PeftLinear


def cosine(one: list[torch.Tensor], two: list[torch.Tensor]) -> float:
    a, b = (torch.cat([x.flatten() for x in part]) for part in (one, two))
    return float(torch.nn.functional.cosine_similarity(a, b, dim=0))


@pytest.mark.parametrize("dtype, gap, angle", [("float32", 1e-5, 1e-6), ("bfloat16", 0.05, 2e-3)])
def test_log_probs_and_gradients_are_those_of_peft(tiny_model, dtype, gap, angle):
    policy = build(tiny_model, dtype)
    assert sum(isinstance(m, AdaptedLinear) for m in policy.modules()) == 14, "seven layers in each of two blocks"
    ours, own = score(policy)
    as_peft(policy)
    theirs, other = score(policy)
    assert (ours - theirs).abs().max() < gap
    assert all(grad.dtype is torch.float32 for grad in own)
    assert 1 - cosine(own, other) < angle


def test_no_activation_is_kept_in_float32_for_an_adapter(tiny_model):
    def count(policy: Policy) -> int:
        """Float32 tensors as wide as a layer's input that the backward pass holds for the adapted layers."""
        held = []

        def note(tensor: torch.Tensor) -> torch.Tensor:
            held.append(tensor)
            return tensor

        layer = next(m for m in policy.modules() if isinstance(m, PeftLinear))
        given = torch.randn(64, layer.in_features, dtype=torch.bfloat16, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            layer(given)
        return sum(tensor.shape[0] == 64 and tensor.dtype is torch.float32 for tensor in held)

    policy = build(tiny_model, "bfloat16")
    assert count(policy) == 0
    as_peft(policy)
    assert count(policy) > 0


@pytest.mark.skipif(not can_lay_out(), reason="oneDNN multiplies no bfloat16 on this CPU")
def test_a_product_in_another_layout_has_the_same_bits():
    torch.manual_seed(0)
    layer = nn.Linear(64, 96, bias=True).bfloat16().requires_grad_(False)
    product = FusedProduct([layer], Slot())
    for rows in (1, 5, 40):
        given = torch.randn(rows, 3, 64).bfloat16()
        product.refresh([None])
        assert torch.equal(product.get_part(0, given), layer(given))
    with torch.no_grad():
        layer.weight.mul_(2)
    product.refresh([None])
    assert torch.equal(product.get_part(0, given), layer(given)), "a weight that changed is laid out anew"


def test_an_older_cpu_generates_with_the_weights_as_they_are(tiny_model, monkeypatch):
    monkeypatch.setattr("fdt.policy.products.frozen_linear.can_lay_out", lambda: False)
    policy = build(tiny_model, "bfloat16")
    assert len(HuggingFace(6).generate(policy, [[1, 2, 3]] * 2, 4)) == 2
    assert policy.frozen_products.products == []


@pytest.mark.skipif(not can_lay_out(), reason="oneDNN multiplies no bfloat16 on this CPU")
def test_generation_leaves_weights_and_layers_as_they_were(tiny_model):
    policy = build(tiny_model, "bfloat16")
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    first = HuggingFace(6).generate(policy, [[1, 2, 3]] * 2, 4)
    assert policy.frozen_products.products, "frozen weights are laid out once"
    assert all(torch.equal(value, before[name]) for name, value in policy.state_dict().items())
    assert not [m for m in policy.modules() if "forward" in vars(m)]
    assert not [m for m in policy.modules() if isinstance(m, AdaptedLinear) and m.cast is not None]
    assert HuggingFace(6).generate(policy, [[1, 2, 3]] * 2, 4) == first
    with torch.no_grad():  # what trains is read anew at each rollout
        for weight in policy.get_trainable_parameters():
            weight.add_(0.3)
    changed = HuggingFace(6).generate(policy, [[1, 2, 3]] * 2, None)
    view = View.from_pairs([([1, 2, 3], list(sample.ids)) for sample in changed])
    gap = policy.compute_log_probs(view).log_probs - torch.tensor([v for s in changed for v in s.log_probs])
    assert gap.abs().max() < 0.2
