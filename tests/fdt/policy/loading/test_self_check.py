"""A model is checked once, at load: real classes of transformers with two random layers."""

import pytest
import torch
import transformers as t
from torch import nn

from fdt.data.batch import View
from fdt.errors import UserError
from fdt.policy.forward import build_hidden_fn, is_windowed
from fdt.policy.loading.self_check import check_log_probs, find_positions
from fdt.policy.lora import LoRA, add_adapters, check_targets, find_fused_weights, report_frozen
from tests.helpers.tiny import tokenizer

WORDS = tokenizer()
SIZES = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LINEAR = {"linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8}
GPT = {"vocab_size": 300, "n_embd": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.2}
MADE = {
    "llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**SIZES)),
    "granite": lambda: t.GraniteForCausalLM(t.GraniteConfig(**SIZES, logits_scaling=8.0)),
    "gemma 2": lambda: t.Gemma2ForCausalLM(t.Gemma2Config(**SIZES, head_dim=8)),
    "recurrent gemma": lambda: t.RecurrentGemmaForCausalLM(
        t.RecurrentGemmaConfig(
            vocab_size=300,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            lru_width=32,
        )
    ),
    "cohere": lambda: t.CohereForCausalLM(t.CohereConfig(**SIZES)),
    "falcon h1": lambda: t.FalconH1ForCausalLM(
        t.FalconH1Config(
            **SIZES,
            mamba_d_ssm=64,
            mamba_n_heads=8,
            mamba_d_head=8,
            mamba_d_state=8,
            mamba_n_groups=1,
            lm_head_multiplier=0.5,
        )
    ),
    "qwen 3.5": lambda: t.Qwen3_5ForCausalLM(
        t.Qwen3_5TextConfig(**SIZES | {"num_hidden_layers": 4}, head_dim=8, **LINEAR)
    ),
    "lfm 2": lambda: t.Lfm2ForCausalLM(t.Lfm2Config(**SIZES, layer_types=["conv", "full_attention"])),
    "rwkv": lambda: t.RwkvForCausalLM(t.RwkvConfig(vocab_size=300, hidden_size=32, num_hidden_layers=2)),
    "gemma 3": lambda: t.Gemma3ForCausalLM(t.Gemma3TextConfig(**SIZES, head_dim=8, sliding_window=16)),
    "mixtral": lambda: t.MixtralForCausalLM(t.MixtralConfig(**SIZES, num_local_experts=4)),
    "gpt 2": lambda: t.GPT2LMHeadModel(t.GPT2Config(**GPT, n_positions=64)),
    "falcon": lambda: t.FalconForCausalLM(
        t.FalconConfig(vocab_size=300, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, alibi=True)
    ),
    "bloom": lambda: t.BloomForCausalLM(t.BloomConfig(vocab_size=300, hidden_size=32, n_layer=2, n_head=4)),
    "mpt": lambda: t.MptForCausalLM(t.MptConfig(vocab_size=300, d_model=32, n_layers=2, n_heads=4)),
    "llama 4": lambda: t.Llama4ForCausalLM(
        t.Llama4TextConfig(**SIZES, head_dim=8, intermediate_size_mlp=64, num_local_experts=2)
    ),
}
MODELS: dict[str, t.PreTrainedModel] = {}


def model(name: str) -> t.PreTrainedModel:
    """Made once, with the weights of one seed."""
    if name not in MODELS:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            MODELS[name] = MADE[name]()
    return MODELS[name]


@pytest.mark.parametrize("name", ["llama", "granite", "mixtral", "gpt 2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_alone_is_packed(name, dtype):
    assert check_log_probs(MADE[name]().to(dtype), WORDS, name)


@pytest.mark.parametrize("name", ["gemma 2", "recurrent gemma", "cohere", "falcon h1"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_bends_logits_under_any_name_is_refused(name, dtype):
    with pytest.raises(UserError, match=f"'{name}' cannot be trained: got 'log-probs that differ by .* nats"):
        check_log_probs(MADE[name]().to(dtype), WORDS, name)


@pytest.mark.parametrize("name", ["falcon", "bloom", "mpt"])
def test_attention_that_is_biased_by_distance_is_refused(name):
    with pytest.raises(UserError, match="ALiBi"):
        check_log_probs(model(name), WORDS, name)


def test_a_decoder_that_does_not_run_apart_is_refused_in_words():
    with pytest.raises(UserError, match="'llama 4' cannot be trained: .*does not give hidden states"):
        check_log_probs(model("llama 4"), WORDS, "llama 4")


@pytest.mark.parametrize("name", ["qwen 3.5", "lfm 2", "rwkv", "gemma 3"])
def test_a_state_that_runs_through_the_row_is_read_alone(name):
    """Then rows that share a prompt have the log-probs of the model's own logits."""
    causal = model(name).eval()
    packs = check_log_probs(causal, WORDS, name)
    assert not packs
    context, answers = list(range(40, 70)), [list(range(100, 110)), list(range(150, 162))]
    view = View.from_pairs([(context, answer) for answer in answers])
    with torch.no_grad():
        own = [causal(input_ids=torch.tensor([context + a])).logits[0, 29:-1].log_softmax(-1) for a in answers]
        hidden = build_hidden_fn(causal, packs=packs)(view)
        found = (hidden @ causal.get_output_embeddings().weight.T).log_softmax(-1)
    torch.testing.assert_close(found, torch.cat(own), rtol=1e-4, atol=1e-4)
    if not is_windowed(causal):
        with torch.no_grad():
            packed = build_hidden_fn(causal, packs=True)(view) @ causal.get_output_embeddings().weight.T
        assert (packed.log_softmax(-1) - torch.cat(own)).abs().max() > 0.1, "packed they would be wrong"


def test_the_check_changes_nothing():
    causal = model("llama").train()
    before = {name: value.clone() for name, value in causal.state_dict().items()}
    check_log_probs(causal, WORDS, "llama")
    assert causal.training and all(torch.equal(value, before[name]) for name, value in causal.state_dict().items())
    assert not causal.get_output_embeddings()._forward_hooks


def test_a_cap_that_the_model_adds_by_itself_is_found(monkeypatch):
    causal = model("llama")
    forward = type(causal).forward

    def capped(self, *args, **kwargs):
        out = forward(self, *args, **kwargs)
        out.logits = 40 * torch.tanh(out.logits / 40)
        return out

    monkeypatch.setattr(type(causal), "forward", capped)
    with pytest.raises(UserError, match="capped, scaled or shifted"):
        check_log_probs(causal, WORDS, "x")


def test_positions_are_those_of_the_text_config():
    assert find_positions(model("gpt 2")) == 64 and find_positions(model("llama")) == 256
    assert find_positions(model("recurrent gemma")) is None


def test_all_linear_says_which_experts_it_leaves_frozen_and_offers_them(recwarn):
    causal = MADE["mixtral"]()
    fused = find_fused_weights(causal, LoRA())
    assert sorted(fused) == ["mlp.experts.down_proj", "mlp.experts.gate_up_proj", "mlp.gate.weight"]
    with pytest.warns(UserWarning, match=r"all-linear leaves \d+% .* frozen.*mlp.experts.down_proj.*lora.parameters"):
        report_frozen(causal, LoRA())
    chosen = LoRA(parameters=sorted(fused))
    assert not find_fused_weights(causal, chosen)
    before = add_adapters(MADE["mixtral"](), LoRA(), 0)
    after = add_adapters(causal, chosen, 0)
    count = [sum(p.numel() for p in m.parameters() if p.requires_grad) for m in (before, after)]
    assert count[1] > count[0]


def test_models_of_linear_layers_are_not_warned_about(recwarn):
    report_frozen(model("llama"), LoRA())
    report_frozen(model("mixtral"), None)
    report_frozen(model("mixtral"), LoRA(targets=["q_proj"]))
    assert not [w for w in recwarn if "frozen" in str(w.message)]


def test_layers_of_another_class_are_refused_with_their_names():
    with pytest.raises(UserError, match="no linear layer .*c_attn, c_fc, c_proj.*Set model.lora.targets"):
        check_targets(model("gpt 2"), LoRA())
    check_targets(model("gpt 2"), LoRA(targets=["c_attn"]))
    check_targets(model("gpt 2"), None)


@pytest.mark.parametrize("lora", [LoRA(targets=["query"]), LoRA(layers=[99])])
def test_adapters_on_layers_that_are_not_there_are_refused_with_those_that_are(lora):
    with pytest.raises(UserError, match="layers that it has: down_proj, gate_proj, k_proj"):
        add_adapters(MADE["llama"](), lora, 0)


def test_a_model_without_a_head_is_refused(monkeypatch):
    from fdt.policy.policy import check_head

    causal = MADE["llama"]()
    monkeypatch.setattr(causal, "get_output_embeddings", lambda: None)
    with pytest.raises(UserError, match="no LM head"):
        check_head(causal, "x")
    monkeypatch.setattr(causal, "get_output_embeddings", lambda: nn.Linear(2, 2))
    with pytest.raises(UserError, match="head bias"):
        check_head(causal, "x")
