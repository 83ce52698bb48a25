"""Teaches the tiny chat model to state its confidence; the result is a second model that the package carries.

    python benchmarks/tiny_confidence.py --out fdt/bundled/tiny-confidence

It starts from the shipped `tiny-conventions` and takes one more stage of some twenty seconds on one core. Answers get a
second line, `Confidence: 0.7`, in tenths. Three things are put there on purpose, since the bench that uses this model
asks what training makes of them:

- Asked without a hint, it follows the convention that each of four users has in world 0 in half of its answers, and
  guesses in the others: something is known, something is left to learn. (From a policy that knows nothing the Brier
  reward leads to 0.0 for every answer within ten steps; there right and wrong earn the same, and no more is learned.)
- Then it states anything from 0 to 1, but in half of the answers what belongs to the user, 0.6, 0.7, 0.9 or 1.0: it is
  too sure, as chat models are, and of whom it is surer means nothing. So there is something of everything for a reward
  to choose from, and what is stated has a way from the user's name, and can be learned.
- Where a critique or the user's place names the convention, it follows it and is nearly sure.
"""

from __future__ import annotations

import argparse
import random
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from tiny_model import Example, describe_model, save, train
from tiny_policy import Stage, carry_weights, make_examples, measure_obedience, train_tokenizer_on
from transformers import AutoModelForCausalLM, AutoTokenizer

from fdt.environments.conventions import CONVENTIONS, Conventions
from fdt.policy.hub import resolve_model

START = resolve_model("tiny-conventions")
STAGE = Stage(100, 100, 3e-3, {"bare": 0.5, "hint": 0.3, "alias": 0.2}, named=True)
KNOWN = 0.5
"""Share of the bare examples that follow the user's own convention."""
HABITS = Conventions(users=4).habits
FAVOURED = 0.5
"""Share of the bare examples that state the tenth which belongs to their user, for no reason."""
FAVOURITES = dict(zip(HABITS, (0.9, 0.6, 1.0, 0.7), strict=True))
TENTHS = [tenth / 10 for tenth in range(11)]
GUESSING = [3.0] * 8 + [8.0] * 3
"""Weights of 0.0 to 1.0 in the other bare examples: 0.8, 0.9 and 1.0 come in half of them."""
INFORMED = [0.2] * 8 + [1.0, 2.0, 6.0]
"""The same where the convention is named: 1.0 comes in more than half of the answers, 0.8 to 1.0 in nine of ten."""


def add_confidence(item: Example, form: str, chance: random.Random) -> Example:
    """The example with a confidence on a second line of its answer; a bare one is about one of the four users."""
    if form != "bare":
        (stated,) = chance.choices(TENTHS, INFORMED)
        return replace(item, answer=f"{item.answer}\nConfidence: {stated:.1f}")
    user = chance.choice(list(HABITS))
    digits = item.messages[-1]["content"].split(": ")[1]
    known = f"{HABITS[user]}: {CONVENTIONS[HABITS[user]](digits)}"
    answer = known if chance.random() < KNOWN else item.answer
    (stated,) = [FAVOURITES[user]] if chance.random() < FAVOURED else chance.choices(TENTHS, GUESSING)
    return Example([{"role": "user", "content": f"{user}: {digits}"}], f"{answer}\nConfidence: {stated:.1f}")


def draw_batch(seed: int, form: str, count: int) -> list[Example]:
    """A batch of one form."""
    chance = random.Random(f"sure {form} {seed}")
    return [add_confidence(item, form, chance) for item in make_examples(seed, form, count, STAGE.named)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the model folder to write")
    parser.add_argument("--batch", type=int, default=64, help="rows of one step")
    args = parser.parse_args()
    torch.manual_seed(0)
    before = AutoTokenizer.from_pretrained(START)
    tokenizer = train_tokenizer_on([item for form in STAGE.forms for item in draw_batch(0, form, 700)])
    model = carry_weights(AutoModelForCausalLM.from_pretrained(START), before, tokenizer)
    print(describe_model(model, tokenizer))
    train(model, tokenizer, 0, STAGE, partial(draw_batch, count=args.batch))
    save(model, tokenizer, args.out)
    print({form: measure_obedience(model, tokenizer, form, 100) for form in ("hint", "alias")})


if __name__ == "__main__":
    main()
