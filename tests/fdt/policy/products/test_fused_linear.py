"""Products of layers that read the same input, made as one: the numbers of each by itself, and nothing stale."""

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from fdt.engines import HuggingFace
from fdt.policy.lora import LoRA
from fdt.policy.policy import Policy
from fdt.policy.products.adapted_linear import find_linear_adapters
from fdt.policy.products.frozen_linear import can_lay_out
from fdt.policy.products.fused_linear import FusedProduct, Slot, find_shared_inputs
from tests.fdt.engines.decode.test_loop import FAMILIES, SIZES
from tests.helpers.tiny import save_model, tokenizer

pytestmark = pytest.mark.skipif(not can_lay_out(), reason="oneDNN multiplies no bfloat16 on this CPU")
IDS = torch.tensor([[7, 65, 66, 90, 12]])
ROUNDING = 2**-7
"""Two roundings to bfloat16, as a share."""


def stir(policy: Policy, seed: int = 3) -> Policy:
    torch.manual_seed(seed)
    with torch.no_grad():
        for weight in policy.get_trainable_parameters():
            weight.normal_(std=0.1)
    policy.eval()
    return policy


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return str(save_model(tmp_path_factory.mktemp("wide"), width=64))


def build(folder: str, dtype: str = "bfloat16", rank: int = 2, targets: str | list[str] = "all-linear") -> Policy:
    return stir(Policy(folder, LoRA(rank=rank, alpha=3.0, targets=targets), dtype))


def compute_logits(policy: Policy) -> torch.Tensor:
    with torch.no_grad():
        return policy.causal(input_ids=IDS, use_cache=False).logits.float()


def list_groups(policy: Policy) -> list[list[str]]:
    names = {module: name.rsplit(".", 1)[-1] for name, module in policy.causal.named_modules()}
    parents = {module.base_layer: names[module] for module in policy.causal.modules() if hasattr(module, "base_layer")}
    found = policy.frozen_products.products or []
    return [[parents.get(layer) or names[layer] for layer in product.layers] for product in found]


def compare(policy: Policy) -> tuple[float, float]:
    """Largest gap of logits between the fused path and the plain one, and the largest logit."""
    plain = compute_logits(policy)
    with policy.prepare_decoding():
        fused = compute_logits(policy)
    assert torch.equal(compute_logits(policy), plain), "afterwards all is as it was"
    return float((fused - plain).abs().max()), float(plain.abs().max())


def test_queries_keys_and_values_are_one_product_and_gate_and_up_another(folder):
    policy = build(folder)
    gap, size = compare(policy)
    assert gap <= 4 * ROUNDING * size
    block = [["q_proj", "k_proj", "v_proj"], ["o_proj"], ["gate_proj", "up_proj"], ["down_proj"]]
    assert list_groups(policy) == [*block, *block, ["lm_head"]]


def test_float32_is_left_as_it_was_and_no_weight_is_copied(folder):
    policy = build(folder, "float32")
    gap, size = compare(policy)
    assert gap <= 1e-6 * size
    assert policy.frozen_products.products == []


@pytest.mark.parametrize("biased", [True, False])
def test_each_layer_gets_what_it_computes_by_itself(biased):
    torch.manual_seed(0)
    layers = [nn.Linear(64, out, bias=biased).bfloat16().requires_grad_(False) for out in (64, 32, 16)]
    product = FusedProduct(layers, Slot())
    product.refresh([None] * 3)
    for rows in (1, 5, 40):
        x = torch.randn(rows, 3, 64).bfloat16()
        for place, layer in enumerate(layers):
            assert (product.get_part(place, x) - layer(x)).abs().max() <= ROUNDING * layer(x).abs().max()


def test_with_adapters_it_is_as_near_to_exact_as_each_by_itself(folder):
    policy = build(folder)
    adapters = find_linear_adapters(policy.model)
    attention = policy.causal.model.layers[0].self_attn
    layers = [attention.q_proj, attention.k_proj, attention.v_proj]
    x = torch.randn(6, 1, 64).bfloat16()
    with policy.prepare_decoding():
        fused = [layer(x) for layer in layers]
    for layer, own in zip(layers, fused, strict=True):
        first, second = layer.get_factors(torch.float32)
        base = x.double() @ layer.base_layer.weight.double().T
        exact = base + 1.5 * (x.double() @ first.double().T) @ second.double().T  # alpha 3 of rank 2
        assert adapters[layer.base_layer] is layer
        assert (own - exact).abs().max() <= 1.5 * (layer(x) - exact).abs().max() + 1e-3


def test_layers_without_an_adapter_share_a_product_with_those_that_have_one(folder):
    policy = build(folder, targets=["q_proj", "v_proj"])
    gap, size = compare(policy)
    assert gap <= 4 * ROUNDING * size
    assert list_groups(policy)[0] == ["q_proj", "k_proj", "v_proj"]
    shape = policy.frozen_products.products[0].factors
    assert shape is not None and tuple(shape[1].shape) == (64 + 32 + 32, 4), "two adapters of rank 2, three layers"


def test_ranks_that_add_up_to_much_are_multiplied_one_by_one(folder):
    policy = build(folder, rank=4)  # 3 * 4 > 64 / 8, 2 * 4 is not
    gap, size = compare(policy)
    assert gap <= 4 * ROUNDING * size
    assert list_groups(policy)[:5] == [["q_proj"], ["k_proj"], ["v_proj"], ["o_proj"], ["gate_proj", "up_proj"]]


def test_another_input_is_multiplied_anew(folder):
    policy = build(folder)
    attention = policy.causal.model.layers[0].self_attn
    one, two = torch.randn(2, 3, 1, 64).bfloat16()
    expected = [attention.q_proj(one), attention.k_proj(two), attention.k_proj(2 * one)]
    with policy.prepare_decoding():
        query = attention.q_proj(one)
        found = [query.clone(), attention.k_proj(two)]
        attention.q_proj(one)
        one.mul_(2)  # the same tensor with another content
        found.append(attention.k_proj(one))
        assert torch.equal(query, found[0])
    for own, other in zip(expected, found, strict=True):
        assert (own - other).abs().max() <= 2 * ROUNDING * own.abs().max()


def test_inference_mode_gives_the_same(folder):
    """What Lightning validates and predicts in."""
    outputs = []
    for mode in (torch.no_grad, torch.inference_mode):
        policy = build(folder)
        with mode(), policy.prepare_decoding():
            outputs.append(compute_logits(policy))
        assert list_groups(policy)[0] == ["q_proj", "k_proj", "v_proj"]
        with policy.prepare_decoding():
            assert torch.equal(compute_logits(policy), outputs[-1])
    assert torch.equal(*outputs)


def test_no_output_outlives_its_layer(folder):
    policy = build(folder)
    attention = policy.causal.model.layers[0].self_attn
    slot = policy.frozen_products.slot
    with policy.prepare_decoding():
        compute_logits(policy)
        assert slot.given is None and not slot.parts
        attention.q_proj(torch.randn(1, 1, 64).bfloat16())
        assert len(slot.parts) == 2, "keys and values wait"
    assert slot.given is None and not slot.parts


@pytest.mark.parametrize("assign", [False, True])
def test_after_a_step_and_after_a_load_nothing_stale_is_read(folder, assign, tmp_path):
    policy = build(folder)
    compare(policy)
    with torch.no_grad():
        for weight in policy.get_trainable_parameters():
            weight.add_(0.2)
    gap, size = compare(policy)
    assert gap <= 4 * ROUNDING * size, "adapters are read at each rollout"
    other = build(str(save_model(tmp_path / "other", width=64, seed=5)))
    policy.load_state_dict(other.state_dict(), assign=assign)
    gap, size = compare(policy)
    assert gap <= 4 * ROUNDING * size, "frozen weights that were loaded are laid out anew"
    assert (compute_logits(policy) - compute_logits(other)).abs().max() == 0


def test_adapters_that_are_switched_off_are_not_added(folder):
    policy = build(folder)
    compare(policy)
    with policy.model.disable_adapter():
        gap, size = compare(policy)
    assert gap <= 4 * ROUNDING * size


def test_layers_that_differ_stand_apart():
    class Layers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Linear(4, 4, bias=True)
            self.two = nn.Linear(4, 4, bias=False)
            self.three = nn.Linear(4, 4, bias=False)
            self.later = nn.Linear(4, 4, bias=False)
            self.twice = nn.Linear(4, 4, bias=False)
            self.uncalled = nn.Linear(4, 4)

        def forward(self, input_ids, use_cache):
            x = torch.ones(1, 4)
            read = self.one(x) + self.two(x) + self.three(x) + self.twice(x) + self.twice(x)
            x += 1  # the same tensor with another content
            return read + self.later(x)

    model = Layers()
    layers = [model.one, model.two, model.three, model.later, model.twice, model.uncalled]
    apart = [[model.later], [model.twice], [model.uncalled]]
    assert find_shared_inputs(model, layers) == [[model.one], [model.two, model.three], *apart]


@pytest.mark.parametrize("family", [name for name, (_, _, plain) in FAMILIES.items() if plain])
def test_families_give_the_logits_of_their_plain_forward(family, tmp_path):
    kind, extra, _ = FAMILIES[family]
    torch.manual_seed(1)
    config = AutoConfig.for_model(kind, **SIZES | extra)
    AutoModelForCausalLM.from_config(config).bfloat16().save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    targets = ["c_attn", "c_fc"] if kind == "gpt2" else "all-linear"
    policy = stir(Policy(str(tmp_path), LoRA(rank=1, targets=targets), "bfloat16"))
    gap, size = compare(policy)
    assert gap <= 8 * ROUNDING * size
    first = HuggingFace(6).generate(policy, [[72, 105, 33]] * 3, 4)
    assert HuggingFace(6).generate(policy, [[72, 105, 33]] * 3, 4) == first
