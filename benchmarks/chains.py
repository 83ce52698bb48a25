"""The world of `benchmarks/step_signal.py`: lists that go from user to user, and a policy that knows what a chain looks like."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from fdt.environments.base import Environment, Reply, Session
from fdt.environments.conventions import CONVENTIONS, LENGTH, USERS, Conventions, build_lists, extract_list
from fdt.policy.hub import resolve_model
from feedback.types import Feedback, Task, Turn

CHAIN = ("amber", "basil", "cedar", "basil")
LINKS = len(CHAIN)


@dataclass(frozen=True)
class Chain(Environment):
    """Lists that go from user to user; one score at the end: whether every answer was right."""

    world: int = 0
    """Seed of who has which convention."""

    def sample_tasks(self, split: str, count: int, seed: int) -> list[Task]:
        chosen = random.Random(f"{split} {seed}").sample(build_lists(split), min(count, len(build_lists(split))))
        return [self.task(digits) for digits in chosen]

    def task(self, digits: str) -> Task:
        """The chain that begins with a list."""
        steps = list(self.way(digits))
        return Task(f"chain-{digits}", (said(0, digits),), steps[-1], meta={"digits": digits, "way": steps})

    def way(self, digits: str) -> list[str]:
        """What an expert answers to each user."""
        habits, steps = Conventions(world_seed=self.world).habits, []
        for user in CHAIN:
            digits = CONVENTIONS[habits[user]](digits)
            steps.append(f"{habits[user]}: {digits}")
        return steps

    def start(self, task: Task, seed: int) -> Session:
        return Passed(task)


class Passed(Session):
    """One list on its way."""

    def __init__(self, task: Task) -> None:
        self.messages, self.way, self.place, self.right = task.messages, task.meta["way"], 0, True

    def reply(self, turn: Turn) -> Reply:
        """The next user's question, or the verdict; an answer without a list ends the chain."""
        digits = extract_list(turn.text)
        self.right &= digits == extract_list(self.way[self.place])
        self.place += 1
        whole = len(digits) == LENGTH and digits.isdecimal()
        if whole and self.place < LINKS:
            return Reply((said(self.place, digits),), done=False)
        return Reply((), (Feedback("environment", None, "right", float(self.right)),))


def said(place: int, digits: str) -> dict[str, str]:
    """A user's question."""
    return {"role": "user", "content": f"{CHAIN[place]}: {digits}"}


def conversation(digits: str, steps: list[str]) -> list[dict[str, str]]:
    """A chain as messages."""
    messages = []
    for place, step in enumerate(steps):
        messages += [said(place, digits), {"role": "assistant", "content": step}]
        digits = extract_list(step)
    return messages


def warm(folder: Path, steps: int) -> None:
    """Teaches the bundled policy the form of a chain, with a convention drawn afresh at each turn."""
    tokenizer = AutoTokenizer.from_pretrained(resolve_model("tiny-conventions"))
    model = AutoModelForCausalLM.from_pretrained(resolve_model("tiny-conventions"))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps, pct_start=0.1)
    chance = random.Random("warm")
    for step in range(steps):
        tokens, labels = tensors([guessed(chance) for _ in range(16)], tokenizer)
        loss = model(input_ids=tokens, labels=labels).compute_loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 50 == 49:
            print(f"warm start, step {step + 1}: loss {loss.item():.3f}", flush=True)
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def guessed(chance: random.Random) -> list[dict[str, str]]:
    """A chain whose every step follows some convention; users are drawn apart from it, so that none means anything."""
    digits, messages = chance.choice(build_lists("train")), []
    for _ in range(LINKS):
        name = chance.choice(list(CONVENTIONS))
        answer = CONVENTIONS[name](digits)
        # Where a convention stands in the user's place it is obeyed: so a user's name has a way to the answer.
        user = name if chance.random() < 0.35 else chance.choice(USERS)
        messages += [
            {"role": "user", "content": f"{user}: {digits}"},
            {"role": "assistant", "content": f"{name}: {answer}"},
        ]
        digits = answer
    return messages


def tensors(chats: list[list[dict[str, str]]], tokenizer: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens ``[B, T]``, right-padded, and labels: the answers' tokens, -100 elsewhere."""
    rows = []
    for chat in chats:
        ids: list[int] = []
        marks: list[int] = []
        for message in chat:
            # The template closes a turn by the end token, which an answer learns to write.
            turn = tokenizer(f"<|{message['role']}|>{message['content']}<|end|>", add_special_tokens=False)["input_ids"]
            own = message["role"] == "assistant"
            ids, marks = ids + turn, marks + ([-100, *turn[1:]] if own else [-100] * len(turn))
        rows.append((ids, marks))
    width = max(len(ids) for ids, _ in rows)
    padded = [ids + [tokenizer.pad_token_id] * (width - len(ids)) for ids, _ in rows]
    return torch.tensor(padded), torch.tensor([marks + [-100] * (width - len(marks)) for _, marks in rows])
