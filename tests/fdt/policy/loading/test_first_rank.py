"""Under FSDP2 the first rank alone reads the weights; the others get theirs a layer at a time."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from fdt.policy.lora import LoRA
from fdt.policy.policy import Policy
from tests.helpers.ranks import finish_ranks
from tests.helpers.runs import ROOT, environment
from tests.helpers.tiny import save_model, tokenizer

pytestmark = pytest.mark.slow


def save_large(folder: Path) -> int:
    """A model whose layers are small beside it; its size in bytes."""
    config = LlamaConfig(
        vocab_size=len(tokenizer()),
        hidden_size=512,
        intermediate_size=2048,
        num_hidden_layers=16,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=512,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config)
    model.generation_config.eos_token_id = [7, 9]
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return 4 * sum(p.numel() for p in model.parameters())


@pytest.fixture(scope="module")
def ranks(tmp_path_factory) -> tuple[Path, int, list[dict]]:
    """The folder, the large model's size, and what each of two ranks found."""
    out = tmp_path_factory.mktemp("ranks")
    size = save_large(out / "large")
    save_model(out / "small")
    shutil.copytree(out / "small", out / "broken")
    (out / "broken" / "model.safetensors").unlink()
    line = [sys.executable, "-m", "tests.helpers.first_rank", str(out), str(out / "large")]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    running = [subprocess.Popen(line, cwd=ROOT, env=environment(LOCAL_RANK=str(rank)), **pipes) for rank in range(2)]
    finish_ranks(running, 200)
    return out, size, [torch.load(out / f"{rank}.pt") for rank in range(2)]


def test_the_second_rank_never_holds_the_whole_model(ranks):
    _, size, (_, second) = ranks
    assert second["grown"] < 0.8 * size, f"{second['grown'] / 1e6:.0f} MB of a model of {size / 1e6:.0f} MB"


@pytest.mark.parametrize(
    ("name", "folder", "settings"),
    [("whole", "large", (None, "float32")), ("adapters", "small", (LoRA(rank=4), "bfloat16"))],
)
def test_the_sharded_policy_is_the_one_that_a_single_rank_loads(ranks, name, folder, settings):
    out, _, found = ranks
    alone = Policy(str(out / folder), *settings, seed=3)
    first, second = (rank[name] for rank in found)
    expected = alone.model.state_dict()
    assert first["state"].keys() == expected.keys() and not second["state"]
    assert all(torch.equal(first["state"][key], value) for key, value in expected.items())
    buffers = dict(alone.model.named_buffers())
    assert buffers, "the rotary frequencies, which no file holds"
    trained = [name for name, p in alone.model.named_parameters() if p.requires_grad]
    for rank in (first, second):
        assert rank["buffers"].keys() == buffers.keys()
        assert all(torch.equal(rank["buffers"][key], value) for key, value in buffers.items())
        assert rank["trained"] == trained
        assert rank["ties"] == (folder == "small")
        assert rank["modes"] == [module.training for module in alone.model.modules()]
        assert rank["packs"] == alone.packs
        assert rank["stop_ids"] == alone.stop_ids


def test_a_model_that_cannot_be_loaded_is_told_by_both_ranks(ranks):
    first, second = ranks[2]
    assert "cannot load" in first["fault"] and second["fault"] == first["fault"]
