"""The world of `benchmarks/step_signal.py`: lists that go from user to user, and a policy that knows their form."""

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

    world_seed: int = 0
    """Seed of who has which convention."""

    def sample_tasks(self, split: str, count: int, seed: int) -> list[Task]:
        lists = build_lists(split)
        return [
            self.build_task(digits) for digits in random.Random(f"{split} {seed}").sample(lists, min(count, len(lists)))
        ]

    def build_task(self, digits: str) -> Task:
        """The chain that begins with a list."""
        steps = self.solve(digits)
        return Task(f"chain-{digits}", (build_question(0, digits),), steps[-1], meta={"digits": digits, "way": steps})

    def solve(self, digits: str) -> list[str]:
        """What an expert answers to each user."""
        habits = Conventions(world_seed=self.world_seed).habits
        steps = []
        for user in CHAIN:
            digits = CONVENTIONS[habits[user]](digits)
            steps.append(f"{habits[user]}: {digits}")
        return steps

    def start(self, task: Task, seed: int) -> Session:
        return ChainSession(task)


class ChainSession(Session):
    """One list on its way."""

    def __init__(self, task: Task) -> None:
        self.messages = task.messages
        self.way = task.meta["way"]
        self.place = 0
        self.right = True

    def reply(self, turn: Turn) -> Reply:
        """The next user's question, or the verdict; an answer without a list ends the chain."""
        digits = extract_list(turn.text)
        self.right &= digits == extract_list(self.way[self.place])
        self.place += 1
        whole = len(digits) == LENGTH and digits.isdecimal()
        if whole and self.place < LINKS:
            return Reply((build_question(self.place, digits),), done=False)
        return Reply((), (Feedback("environment", None, "right", float(self.right)),))


def build_question(place: int, digits: str) -> dict[str, str]:
    """A user's question."""
    return {"role": "user", "content": f"{CHAIN[place]}: {digits}"}


def build_conversation(digits: str, steps: list[str]) -> list[dict[str, str]]:
    """A chain as messages."""
    messages = []
    for place, step in enumerate(steps):
        messages += [build_question(place, digits), {"role": "assistant", "content": step}]
        digits = extract_list(step)
    return messages


def train_warm_start(folder: Path, steps: int) -> None:
    """Teaches the bundled policy the form of a chain, with a convention drawn afresh at each turn."""
    tokenizer = AutoTokenizer.from_pretrained(resolve_model("tiny-conventions"))
    model = AutoModelForCausalLM.from_pretrained(resolve_model("tiny-conventions"))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps, pct_start=0.1)
    rng = random.Random("warm")
    for step in range(steps):
        tokens, labels = build_tensors([build_guess(rng) for _ in range(16)], tokenizer)
        loss = model(input_ids=tokens, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 50 == 49:
            print(f"warm start, step {step + 1}: loss {loss.item():.3f}", flush=True)
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def build_guess(rng: random.Random) -> list[dict[str, str]]:
    """A chain whose every step follows some convention; users are drawn apart from it, so that none means anything."""
    digits = rng.choice(build_lists("train"))
    messages = []
    for _ in range(LINKS):
        name = rng.choice(list(CONVENTIONS))
        answer = CONVENTIONS[name](digits)
        # A convention in the user's place is followed: so a user's name can come to stand for one.
        user = name if rng.random() < 0.35 else rng.choice(USERS)
        messages += [
            {"role": "user", "content": f"{user}: {digits}"},
            {"role": "assistant", "content": f"{name}: {answer}"},
        ]
        digits = answer
    return messages


def build_tensors(chats: list[list[dict[str, str]]], tokenizer: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens ``[B, T]``, right-padded, and labels: the answers' tokens, -100 elsewhere."""
    rows = []
    for chat in chats:
        ids: list[int] = []
        labels: list[int] = []
        for message in chat:
            # The template closes a turn by the end token, which an answer learns to write.
            turn = tokenizer(f"<|{message['role']}|>{message['content']}<|end|>", add_special_tokens=False)["input_ids"]
            own = message["role"] == "assistant"
            ids += turn
            labels += [-100, *turn[1:]] if own else [-100] * len(turn)
        rows.append((ids, labels))
    width = max(len(ids) for ids, _ in rows)
    padded = [ids + [tokenizer.pad_token_id] * (width - len(ids)) for ids, _ in rows]
    return torch.tensor(padded), torch.tensor([labels + [-100] * (width - len(labels)) for _, labels in rows])
