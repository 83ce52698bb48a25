"""`fdt plan`: parts worked out by hand, and what autograd keeps against a real model."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM

from fdt.__main__ import main
from fdt.cli.plan.estimate import Workload, count_tokens, estimate_memory, estimate_traffic
from fdt.cli.plan.settings import merge_config, read_settings
from fdt.cli.plan.shape import PROBE, measure_shape
from fdt.errors import UserError

QWEN_7B = {
    "model_type": "qwen2",
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
    "tie_word_embeddings": False,
    "max_position_embeddings": 32768,
}


@pytest.fixture(scope="module")
def seven(tmp_path_factory) -> str:
    """A folder with the config of a model of 7B and no weights."""
    folder = tmp_path_factory.mktemp("models") / "seven"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(QWEN_7B))
    return str(folder)


def settings(folder: str, *options: str):
    return read_settings([f"--model.base={folder}", *options])


def test_files_and_options_are_merged_as_a_run_merges_them(tmp_path):
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("model: {lora: {rank: 4}, seed: 1}\ndata: {source: {class_path: a.OnPolicy, init_args: {x: 1}}}")
    second.write_text("model: {lora: null}\ndata: {source: {class_path: a.Replay}}")
    argv = ["-c", str(first), "-c", str(second), "--trainer.devices", "8"]
    assert merge_config(argv) == {
        "model": {"lora": None, "seed": 1},
        "data": {"source": {"class_path": "a.Replay"}},
        "trainer": {"devices": 8},
    }


def test_all_weights_of_7b_on_eight_cards(seven):
    given = settings(
        seven,
        "--model.lora=null",
        "--trainer.devices=8",
        "--trainer.precision=bf16-mixed",
        "--trainer.strategy=fdt.policy.fsdp.FSDP2",
        "--model.teacher=fdt.policy.teachers.EMA",
        "--model.gradient_checkpointing=true",
    )
    shape = measure_shape(given)
    assert shape.parameters == shape.trainable == 7_615_616_512
    memory, peaks = estimate_memory(shape, given, Workload(200, 2000))
    shard = 4 * 7_615_616_512 / 8
    for part, copies in {"weights": 1, "gradients": 1, "optimiser": 2, "start and teacher": 2}.items():
        assert memory[part] == pytest.approx(copies * shard), part
    assert 35e9 < peaks["training"] < 60e9
    plain, _ = estimate_memory(
        shape, settings(seven, "--model.lora=null", "--trainer.precision=bf16-mixed"), Workload(200, 2000)
    )
    assert plain["activations"] == pytest.approx(42.4 * 2**30 * 4096 / 4096, rel=0.15), (
        "by real kernels' shapes: 42.4 GiB"
    )


def test_adapters_train_little_and_the_base_is_held_low(seven):
    given = settings(seven, "--model.lora.rank=16", "--model.dtype=bfloat16")
    shape = measure_shape(given)
    inside = 4 * 3584 + (3584 + 512) * 2 + (3584 + 18944) * 3  # q and o, k and v, gate, up and down
    assert shape.trainable == 28 * 16 * inside
    memory, _ = estimate_memory(shape, given, Workload(200, 200))
    assert memory["weights"] == pytest.approx(2 * 7_615_616_512 + 4 * shape.trainable)


def test_what_autograd_keeps_is_what_a_real_model_keeps(tiny_model):
    given = settings(tiny_model, "--model.lora=null", "--model.dtype=float32")
    counted = measure_shape(given).saved_bytes * PROBE * 2
    causal = AutoModelForCausalLM.from_pretrained(tiny_model, attn_implementation="sdpa")
    weights = {p.untyped_storage().data_ptr() for p in causal.parameters()}
    seen: dict[int, int] = {}
    kept = []

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            seen[storage.data_ptr()] = storage.nbytes()
            kept.append(tensor)
        return tensor

    states = torch.randn(1, PROBE, 32, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        causal.get_decoder()(inputs_embeds=states, use_cache=False)
    assert counted == pytest.approx(sum(seen.values()), rel=0.1)


def test_tokens_and_traffic_by_hand(seven):
    given = settings(
        seven,
        "--data.source=fdt.rollout.sources.OnPolicy",
        "--data.source.prompts_per_rollout=2",
        "--data.source.num_generations=4",
        "--model.lora=null",
    )
    tokens = count_tokens(given, Workload(100, 50, hinted_share=0.5, hint_tokens=10))
    assert tokens["generated"] == tokens["targets"] == 8 * 50
    assert tokens["teacher"] == 8 * 0.5 * 160
    assert tokens["student"] == 8 * (100 / 4 + 50), "four answers share a prompt"
    shape = measure_shape(given)
    both = settings(seven, "--model.lora=null", "--trainer.devices=2", "--trainer.strategy=ddp")
    assert estimate_traffic(shape, both, tokens) == {"gradients": 4.0 * 7_615_616_512}


def test_the_command_says_whether_it_fits(seven, capsys):
    argv = ["plan", f"--model.base={seven}", "--model.dtype=bfloat16", "--prompt-tokens=100", "--answer-tokens=100"]
    assert main([*argv, "--card=h100"]) == 0
    text = capsys.readouterr().out
    assert "fits:" in text and "7,6" in text and "activations" in text
    assert main([*argv, "--card=rtx4090", "--model.lora=null", "--model.dtype=float32"]) == 0
    assert "does not fit" in capsys.readouterr().out
    assert main([*argv, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["seconds"]["step"] > 0


def test_a_model_without_a_config_is_one_message(tmp_path):
    with pytest.raises(UserError, match="config.json"):
        measure_shape(settings(str(tmp_path)))
