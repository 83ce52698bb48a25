"""Our own loop gives what `transformers.generate` gives: prompts read once, rows that leave, random numbers by row."""

import math
from collections import Counter

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache

from fdt.engines import FORCED, HuggingFace, Limit
from fdt.engines.decode.check import COARSE, EXACT, can_decode, find_tolerance
from fdt.engines.decode.kv_cache import RoomyCache, RoomyLayer
from fdt.engines.decode.sampling import RowNoise, choose_tokens
from fdt.policy.lora import LoRA
from fdt.policy.policy import Policy
from tests.helpers.card import SimulatedCard, move_module
from tests.helpers.tiny import tokenizer

SIZES = {
    "vocab_size": 259,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
    "bos_token_id": None,
    "eos_token_id": 256,
    "pad_token_id": 257,
}
FAMILIES = {
    "llama": ("llama", {}, True),
    "qwen3": ("qwen3", {}, True),
    "qwen2": ("qwen2", {"use_sliding_window": False}, True),
    "olmo2": ("olmo2", {}, True),
    "gemma3": ("gemma3_text", {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}, False),
    "mistral with a window": ("mistral", {"sliding_window": 8}, False),
    "gpt2": ("gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512}, True),
    "mixtral": ("mixtral", {"num_local_experts": 4, "sliding_window": None}, True),
    "lfm2": ("lfm2", {"layer_types": ["conv", "full_attention"]}, False),
}
PROMPTS = [[72, 105, 33], [65, 66, 67, 68, 69, 70, 71], [72, 105, 33], [65, 66], [72, 105, 33]]


@pytest.fixture(scope="module")
def policy(tiny_model):
    made = Policy(tiny_model, LoRA(rank=4), "float32")
    with torch.no_grad():
        for weight in made.get_trainable_parameters():
            weight.normal_(std=0.05)
    return made


class Generate(HuggingFace):
    """Without our loop."""

    def _uses_own_loop(self, policy):
        return False


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_answers_are_those_of_generate_in_every_family(family, tmp_path):
    kind, changes, ours = FAMILIES[family]
    torch.manual_seed(1)
    AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SIZES | changes)).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    made = Policy(str(tmp_path), None, "float32")
    assert can_decode(made.causal) is ours
    found = HuggingFace(12).generate(made, PROMPTS, None)
    expected = Generate(12).generate(made, PROMPTS, None)
    assert [sample.ids for sample in found] == [sample.ids for sample in expected]
    for one, two in zip(found, expected, strict=True):
        assert one.log_probs == pytest.approx(two.log_probs, abs=1e-4)


def test_each_prompt_is_read_once_and_rows_that_ended_leave(policy):
    shapes: list[tuple[int, int]] = []
    handle = policy.causal.get_input_embeddings().register_forward_hook(
        lambda module, given, out: shapes.append(tuple(given[0].shape))
    )
    limits = [Limit(2), Limit(9), Limit(2), Limit(2), Limit(5)]
    can_decode(policy.causal)
    shapes.clear()
    try:
        samples = HuggingFace(9).generate(policy, PROMPTS, 5, limits)
    finally:
        handle.remove()
    assert shapes[0] == (3, 7), "three different prompts for five answers, padded to the longest"
    assert all(width == 1 for _, width in shapes[1:])
    steps = max(len(sample.ids) for sample in samples)
    assert len(shapes) == steps, "nothing is read after the last token"
    live = [sum(len(sample.ids) > step for sample in samples) for step in range(1, steps)]
    assert live[0] == 5 and [rows for rows, _ in shapes[1:]] == live


def test_samples_do_not_depend_on_what_else_is_in_the_batch(policy):
    prompts = PROMPTS * 3
    together = HuggingFace(9).generate(policy, prompts, 7)
    for size in (1, 4):
        assert [s.ids for s in HuggingFace(9, batch_size=size).generate(policy, prompts, 7)] == [
            s.ids for s in together
        ]
    other = HuggingFace(9).generate(policy, prompts, 7, [Limit(2) if n % 2 else Limit() for n in range(len(prompts))])
    assert [s.ids for s in other[::2]] == [s.ids for s in together[::2]]
    assert len({sample.ids for sample in together[::5]}) > 1, "equal prompts are answered differently"
    assert HuggingFace(9).generate(policy, prompts, 8) != together


def test_tokens_are_drawn_up_to_where_probabilities_add_up():
    """p = [.2, .3, 0, .5]: sums .2, .5, .5, 1; a number is answered by the first sum above it."""
    logits = torch.tensor([[0.2, 0.3, 0.0, 0.5]]).log().repeat(6, 1)
    uniform = torch.tensor([0.0, 0.19, 0.21, 0.49, 0.51, 1 - 2**-24])
    chosen, log_probs = choose_tokens(logits, uniform)
    assert chosen.tolist() == [0, 0, 1, 1, 3, 3]
    assert log_probs.exp().tolist() == pytest.approx([0.2, 0.2, 0.3, 0.3, 0.5, 0.5])
    assert choose_tokens(logits, None)[0].tolist() == [3] * 6
    ends = torch.tensor([[0.5, 0.5, 0.0]]).log()
    assert choose_tokens(ends, torch.tensor([1 - 2**-24]))[0].tolist() == [1], "what has no probability is not drawn"


def test_samples_follow_the_distribution():
    p = torch.tensor([0.1, 0.2, 0.3, 0.4])
    noise, count = RowNoise(3, 8000), Counter()
    for step in range(2):
        count.update(choose_tokens(p.log().repeat(8000, 1), noise.draw(step, torch.arange(8000)))[0].tolist())
    for token, share in enumerate(p.tolist()):
        assert count[token] / 16000 == pytest.approx(share, abs=4 * math.sqrt(share / 16000))


def test_forced_tokens_stay_with_their_rows_when_others_leave(policy):
    """The first two rows end at once; the third one's block is closed by force three tokens on."""
    words = policy.tokenizer
    opened = words("q<think>", add_special_tokens=False)["input_ids"]
    close = words("</think>", add_special_tokens=False)["input_ids"]
    limits = [Limit(1), Limit(1), Limit(14, 3), Limit(14)]
    samples = HuggingFace(14).generate(policy, [opened] * 4, 2, limits)
    assert list(samples[2].ids[3 : 3 + len(close)]) == close
    assert [n for n, value in enumerate(samples[2].log_probs) if value is FORCED or math.isnan(value)] == list(
        range(3, 3 + len(close))
    )
    assert not any(map(math.isnan, samples[3].log_probs))


def test_the_cache_grows_and_keeps_its_rows():
    first = DynamicCache()
    keys = torch.arange(2 * 3 * 2, dtype=torch.float32).view(2, 1, 3, 2)
    first.update(keys, -keys, 0)
    cache = RoomyCache([first], torch.tensor([1, 0, 1]), room=4)
    (layer,) = cache.layers
    assert isinstance(layer, RoomyLayer)
    new = torch.full((3, 1, 1, 2), 50.0)
    for _ in range(3):  # the second no longer fits
        read, values = cache.update(new, -new, 0)
    expected = torch.cat([keys[[1, 0, 1]], new, new, new], dim=2)
    assert torch.equal(read, expected) and torch.equal(values, -expected) and cache.get_seq_length() == 6
    cache.select_rows(torch.tensor([2, 1]))
    read, _ = cache.update(new[:2], -new[:2], 0)
    assert torch.equal(read, torch.cat([expected[[2, 1]], new[:2]], dim=2))


def test_under_autocast_each_weight_is_cast_once_and_nothing_of_it_stays(tiny_model):
    made = Policy(tiny_model, None, "float32")
    plain = HuggingFace(6).generate(made, PROMPTS, None)
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        with made.prepare_decoding():
            assert torch.is_autocast_cache_enabled()
        assert not torch.is_autocast_cache_enabled()
        before = HuggingFace(6).generate(made, PROMPTS, None)
        with torch.no_grad():
            for layer in made.causal.model.layers:
                layer.mlp.down_proj.weight.mul_(-30)
        after = HuggingFace(6).generate(made, PROMPTS, None)
    assert [s.ids for s in before] == [s.ids for s in plain] != [s.ids for s in after]
    assert [s.ids for s in after] == [s.ids for s in HuggingFace(6).generate(made, PROMPTS, None)]
    with made.prepare_decoding():
        assert torch.is_autocast_cache_enabled(), "as torch has it"


def test_what_rounding_may_make_is_that_of_what_multiplies(tiny_model, monkeypatch):
    causal = Policy(tiny_model, None, "float32").causal
    assert find_tolerance(causal) == EXACT
    with torch.autocast("cpu", torch.bfloat16):
        assert find_tolerance(causal) == COARSE
    move_module(causal)
    with SimulatedCard():
        assert find_tolerance(causal) == EXACT
        monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "high")
        assert find_tolerance(causal) == COARSE
