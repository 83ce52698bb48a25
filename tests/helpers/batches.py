"""Batches for tests of the learner, and a trainer-less way to take a step's gradient."""

from __future__ import annotations

from dataclasses import replace

import torch

from fdt.data.batch import Batch
from fdt.data.collate import Collator
from fdt.data.microbatch import split_batch
from fdt.learner import Learner
from fdt.policy.policy import Policy
from feedback.hints import CritiqueHint
from feedback.types import Episode, Feedback, Task, Turn
from objectives import Distill, Imitate, PolicyGradient

TERMS = {"policy": PolicyGradient(truncate=2.0), "distill": Distill(k=16), "imitate": Imitate()}
COEFFICIENTS = {"imitate": 0.5}


def episodes(tasks: int = 3, each: int = 2) -> list[Episode]:
    """Answers of unequal length; every second one is wrong, criticised and, in even tasks, corrected."""
    made = []
    for task in range(tasks):
        asked = Task(f"t{task}", ({"role": "user", "content": f"{task} + 1?" + " please" * task},), f"{task + 1}")
        for n in range(each):
            wrong = n % 2 == 1
            turn = Turn("assistant", f"{task + 3} I think" + "!" * n if wrong else f"{task + 1}")
            critique = f"Wrong: it is {task + 1}." if wrong else None
            revision = f"{task + 1}" if wrong and not task % 2 else None
            said = Feedback(score=float(not wrong), text=critique, revision=revision)
            made.append(Episode(f"r{task}-{n}", asked, (turn,), (said,)))
    return made


def batch(tokenizer, tasks: int = 3, each: int = 2) -> Batch:
    """One step's batch with advantages of both signs."""
    rows = episodes(tasks, each)
    advantages = torch.tensor([1.0 if e.score else -1.0 for e in rows]) * torch.linspace(0.5, 1.5, len(rows))
    return Collator(tokenizer, CritiqueHint())(rows, advantages)


def learner(base: str, **changes) -> Learner:
    """A learner with its policy and teachers, outside any trainer, dropout off."""
    terms = {"terms": TERMS, "coefficients": COEFFICIENTS} if "terms" not in changes else {}
    made = Learner(**{**terms, "base": base, "dtype": "float32"} | changes)
    made.policy = Policy(made.base, made.lora, made.dtype_name, made.gradient_checkpointing is True, made.seed)
    made.teacher.attach(made.policy)
    made.start = made.teacher
    return made


def gradient(made: Learner, step: Batch, budget: int) -> tuple[torch.Tensor, float, int]:
    """The flat gradient and the loss of one optimiser step cut by ``budget``, and the number of its micro-batches."""
    rollouts = replace(step.rollouts, weights=made.objective.weigh(step.rollouts))
    step = replace(step, rollouts=replace(rollouts, totals=made.objective.compute_totals(rollouts)))
    parts, value = split_batch(step, budget), 0.0
    for part in parts:
        loss = made.compute_loss(part)[0]
        loss.value.backward()
        value += float(loss.value.detach())
    found = torch.cat([p.grad.flatten() for p in made.policy.get_trainable_parameters()])
    for parameter in made.policy.get_trainable_parameters():
        parameter.grad = None
    return found, value, len(parts)


def shake(policy: Policy, scale: float = 0.05) -> None:
    """Moves the trainable weights away from the start, so that no signal is zero by construction."""
    with torch.no_grad():
        for parameter in policy.get_trainable_parameters():
            parameter.add_(torch.randn_like(parameter) * scale)
