"""Makes the tiny chat model that the package carries: it follows a convention that is named, and guesses otherwise.

    python benchmarks/tiny_policy.py --out fdt/bundled/tiny-conventions

Half a million parameters, a byte-level tokenizer of its own, a few minutes on one core. It reads the prompts that `fdt`
itself writes: a bare question (answered by a convention drawn at random, so that it knows nothing about users), the
same with a hint, and the request to rewrite an earlier answer. From the second stage on its answers begin with the name
of the convention that they follow, so that a guess is made in one token and then kept to. The last stage adds prompts
with a convention in the user's place: so a user's name can come to stand for a convention, and that can be learned.
"""

from __future__ import annotations

import argparse
import random
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from tiny_model import Example, Stretch, describe_model, make_model, save, train, train_tokenizer
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from fdt.data.tokenization import tokenize_prompt
from fdt.environments.conventions import CONVENTIONS, USERS, ExactList, build_lists, extract_list
from feedback.hints import CritiqueHint
from feedback.rewriter import Rewriter
from feedback.types import Episode, Feedback, Task, Turn


@dataclass(frozen=True)
class Stage(Stretch):
    """A stretch of training in this world."""

    named: bool = True
    """Answers begin with the name of their convention."""


STAGES = (
    Stage(500, 800, 3e-3, {"bare": 0.15, "hint": 0.55, "rewrite": 0.3}, named=False),
    Stage(360, 360, 2e-3, {"bare": 0.2, "hint": 0.5, "rewrite": 0.3}),
    Stage(240, 240, 2e-3, {"bare": 0.6, "hint": 0.25, "rewrite": 0.15}),
    Stage(300, 300, 2e-3, {"bare": 0.75, "hint": 0.15, "rewrite": 0.1}),
    Stage(160, 160, 2e-3, {"alias": 0.35, "bare": 0.35, "hint": 0.2, "rewrite": 0.1}),
)
STATED = 0.3
"""Share of the critiques that hold the transformed list instead of the convention's name."""
WORDS = r"\d| ?[A-Za-z]+|\n+"
"""The whole words of this world, one token a digit."""


def make_example(chance: random.Random, form: str, digits: str, named: bool) -> Example:
    """A user, a list and a convention, put in the words of one form."""
    user = chance.choice(USERS)
    wanted = chance.choice(list(CONVENTIONS))
    other = chance.choice(list(CONVENTIONS))
    user = wanted if form == "alias" else user
    answer, earlier = (f"{name}: " * named + CONVENTIONS[name](digits) for name in (wanted, other))
    critique = CONVENTIONS[wanted](digits) if chance.random() < STATED else wanted
    task = Task(f"{user}-{digits}", ({"role": "user", "content": f"{user}: {digits}"},), answer)
    if form in ("bare", "alias"):
        return Example(list(task.messages), answer)
    episode = Episode("example", task, (Turn("assistant", earlier),), (Feedback(text=f"It should be {critique}."),))
    messages = CritiqueHint()(episode) if form == "hint" else Rewriter(ExactList()).build_prompts([episode])[0]
    assert messages is not None
    return Example(messages, answer)


def make_examples(seed: int, form: str, count: int, named: bool) -> list[Example]:
    """A batch of one form; the lists of other splits stay unseen."""
    chance = random.Random(f"train {form} {seed}")
    return [make_example(chance, form, chance.choice(build_lists("train")), named) for _ in range(count)]


def make_tokenizer(named: bool) -> PreTrainedTokenizerFast:
    """One for the words of this world."""
    return train_tokenizer_on([item for form in STAGES[0].forms for item in make_examples(0, form, 500, named)])


def train_tokenizer_on(batch: list[Example]) -> PreTrainedTokenizerFast:
    """One for the words of these examples."""
    return train_tokenizer((text for item in batch for text in (item.messages[0]["content"], item.answer)), WORDS)


@torch.no_grad()
def carry_weights(
    model: LlamaForCausalLM, old: PreTrainedTokenizerFast, new: PreTrainedTokenizerFast
) -> LlamaForCausalLM:
    """The same model over another vocabulary: a word at the start of a text begins as the word after a space."""
    grown = make_model(new)
    known = old.get_vocab()
    state = model.state_dict()
    rows = grown.get_input_embeddings().weight
    for token, place in new.get_vocab().items():
        source = known.get(token, known.get(f"\u0120{token}"))  # the byte-level alphabet's sign for a space
        if source is not None:
            rows[place] = model.get_input_embeddings().weight[source]
    shared = {"model.embed_tokens.weight", "lm_head.weight"}
    grown.load_state_dict({name: value for name, value in state.items() if name not in shared}, strict=False)
    return grown


@torch.no_grad()
def measure_obedience(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, form: str, count: int = 300
) -> float:
    """Share of unseen lists on which the greedy answer to a form holds the wanted list."""
    chance = random.Random("measured")
    right = 0
    for _ in range(count):
        item = make_example(chance, form, chance.choice(build_lists("heldout")), STAGES[-1].named)
        ids = torch.tensor([tokenize_prompt(item.messages, tokenizer)])
        out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False)
        right += extract_list(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)) == extract_list(
            item.answer
        )
    return right / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the model folder to write")
    parser.add_argument("--batch", type=int, default=64, help="rows of one step")
    args = parser.parse_args()
    torch.manual_seed(0)
    tokenizer = make_tokenizer(STAGES[0].named)
    model = make_model(tokenizer)
    print(describe_model(model, tokenizer))
    for number, stage in enumerate(STAGES):
        if number and stage.named != STAGES[number - 1].named:
            before = tokenizer
            tokenizer = make_tokenizer(stage.named)
            model = carry_weights(model, before, tokenizer)
        train(model, tokenizer, number, stage, partial(make_examples, count=args.batch, named=stage.named))
    save(model, tokenizer, args.out)
    print({form: measure_obedience(model, tokenizer, form) for form in STAGES[-1].forms})


if __name__ == "__main__":
    main()
