"""The shape of a model of 7B."""

import json

import pytest

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
