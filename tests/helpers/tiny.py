"""A tiny chat model made on the spot: byte-level tokenizer, two-layer Llama with random weights. No download."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tokenizer() -> PreTrainedTokenizerFast:
    """256 bytes and three control tokens, in the ChatML layout."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={c: n for n, c in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|pad|>")
    made.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    made.chat_template = CHAT
    return made


def save_model(folder: Path, tied: bool = True, seed: int = 0, width: int = 32, heads: int = 4) -> Path:
    """A model folder that ``model.base`` accepts."""
    words = tokenizer()
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
        max_position_embeddings=2048,
        tie_word_embeddings=tied,
        bos_token_id=None,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
        initializer_range=0.2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        LlamaForCausalLM(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def save_rows(path: Path, tasks: int = 6, each: int = 2, revisions: bool = False) -> Path:
    """A feedback file: ``tasks`` prompts with ``each`` answers, half of them right; wrong ones are criticised."""
    with path.open("w", encoding="utf-8") as file:
        for task in range(tasks):
            for answer in range(each):
                right = answer % 2 == 0
                row = {
                    "id": f"r{task}-{answer}",
                    "task": f"t{task}",
                    "prompt": f"{task} + 1?",
                    "response": f"{task + 1}" if right else f"{task + 3} it is, I think",
                    "score": 1.0 if right else 0.0,
                    "reference": f"{task + 1}",
                }
                if not right:
                    row["critique"] = f"Wrong: {task} + 1 is {task + 1}."
                    if revisions:
                        row["revision"] = f"{task + 1}"
                file.write(json.dumps(row) + "\n")
    return path
