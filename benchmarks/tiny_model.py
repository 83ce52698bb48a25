"""Tiny chat models from generated text: tokenizer, shape, training and saving, shared by the recipes beside it.

Half a million parameters, a byte-level tokenizer of its own, a few minutes on one core. A recipe gives what is read
and what is answered: `tiny_policy.py` (the small world of conventions), `tiny_lake.py` (FrozenLake), `budgets.py`
(search).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from feedback.types import Message

CHAT = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
ROLES = ["<|system|>", "<|user|>", "<|assistant|>", "<|tool|>"]
SHAPE = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4}


@dataclass(frozen=True)
class Stretch:
    """One stretch of training, with an optimiser of its own."""

    steps: int
    schedule: int
    """Steps over which the rate would fall to zero."""
    rate: float
    forms: dict[str, float]
    """How often a batch is of each kind."""


@dataclass(frozen=True)
class Example:
    """One prompt, and the answer that it should have."""

    messages: list[Message]
    """What stands before the answer; it may hold earlier turns of the assistant."""
    answer: str
    learned: tuple[bool, ...] | None = None
    """Which turns of the assistant are learned, the answer last; None: the answer alone."""


def train_tokenizer(texts: Iterable[str], words: str, further: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """Bytes, the whole words of these texts, and control tokens for the turns.

    Args:
        words: pattern of what is merged into one token where it is frequent; what it does not match stays in bytes.
        further: further strings that are one token each.
    """
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(words), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    bytes_ = sorted(pre_tokenizers.ByteLevel.alphabet())
    core.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=2000, min_frequency=2, initial_alphabet=bytes_, show_progress=False)
    )
    made = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|end|>", pad_token="<|pad|>")
    made.add_special_tokens({"additional_special_tokens": ROLES})
    made.add_tokens(list(further))
    made.chat_template = CHAT
    return made


def make_model(tokenizer: PreTrainedTokenizerFast, context: int = 256, **shape: int) -> LlamaForCausalLM:
    """Random weights, embedding and head tied."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            max_position_embeddings=context,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            initializer_range=0.06,
            **(SHAPE | shape),
        )
    )


def build_tensors(batch: Sequence[Example], tokenizer: PreTrainedTokenizerFast) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens ``[B, T]``, right-padded, and labels ``[B, T]``: the learned turns' tokens and ends, -100 elsewhere."""
    texts = list(dict.fromkeys(text for item in batch for _, text in _list_turns(item)))
    ids = dict(zip(texts, tokenizer(texts, add_special_tokens=False)["input_ids"], strict=True))
    heads = {role: tokenizer.convert_tokens_to_ids(f"<|{role}|>") for role in ("system", "user", "assistant", "tool")}
    rows = []
    labels = []
    for item in batch:
        row: list[int] = []
        label: list[int] = []
        turns = _list_turns(item)
        count = [role for role, _ in turns].count("assistant")
        flags = iter(item.learned or [False] * (count - 1) + [True])
        for role, text in turns:
            tokens = [*ids[text], tokenizer.eos_token_id]
            learned = role == "assistant" and next(flags)
            row += [heads[role], *tokens]
            label += [-100, *(tokens if learned else [-100] * len(tokens))]
        rows.append(row)
        labels.append(label)
    width = max(map(len, rows))
    return (
        torch.tensor([row + [tokenizer.pad_token_id] * (width - len(row)) for row in rows]),
        torch.tensor([label + [-100] * (width - len(label)) for label in labels]),
    )


def _list_turns(item: Example) -> list[tuple[str, str]]:
    return [*((message["role"], message["content"]) for message in item.messages), ("assistant", item.answer)]


def train(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    number: int,
    stage: Stretch,
    draw: Callable[[int, str], Sequence[Example]],
) -> None:
    """Next-token cross-entropy on the learned turns; AdamW, linear warm-up, cosine to zero.

    Args:
        number: of the stage, from 0; seeds its draws.
        draw: the batch of a seed and a form.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=stage.rate, weight_decay=0.01, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, stage.rate, total_steps=stage.schedule, pct_start=0.1)
    rng = random.Random(number)
    began = time.monotonic()
    losses: dict[str, float] = {}
    for step in range(stage.steps):
        (form,) = rng.choices(list(stage.forms), list(stage.forms.values()))
        tokens, labels = build_tensors(draw(step + 1 + 10_000 * number, form), tokenizer)
        loss = model(input_ids=tokens, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses[form] = round(loss.item(), 3)
        if step % 20 == 19:
            print(f"stage {number + 1}, step {step + 1}: {losses}, {time.monotonic() - began:.0f} s", flush=True)


def describe_model(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> str:
    """How large it is."""
    return f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(tokenizer)} tokens"


def save(model: LlamaForCausalLM, tokenizer: Any, folder: Path) -> None:
    """Writes a model folder as `from_pretrained` reads it."""
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
