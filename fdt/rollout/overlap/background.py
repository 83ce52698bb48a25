"""The actor as the second thread has it: nothing that training writes to is read there, and the reverse."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from fdt.engines import Engine
from fdt.errors import UserError
from fdt.policy.policy import Policy
from fdt.rollout.actor import Actor
from feedback.types import Episode, Task

REMEDY = "set data.source.init_args.max_staleness: 0, or use an engine with weights of its own: fdt.engines.VLLMServer"


@dataclass
class AnsweredActor(Actor):
    """An actor whose answers were drawn before: the engine reads the weights that train."""

    answers: list[Episode] = field(default_factory=list)
    asked: bool = False

    def generate_episodes(
        self,
        tasks: Sequence[Task],
        seed: int | None,
        num_generations: int = 1,
        counted: bool = True,
        with_skills: bool = True,
        max_new_tokens: int | None = None,
    ) -> list[Episode]:
        if self.asked:
            _refuse("answers after those that were drawn before the update")
        self.asked = True
        return self.answers


def build_background_actor(actor: Actor, tokenizer: Any, engine: Engine | None, answers: list[Episode] | None) -> Actor:
    """An actor for another thread, with counters and a tokenizer of its own.

    Args:
        actor: that of training.
        tokenizer: a copy of its tokenizer.
        engine: with weights of its own; None where ``answers`` were drawn already.
        answers: what the rollout asks for first.
    """
    collator = replace(actor.collator, tokenizer=tokenizer, truncated=Counter(), dropped=set())
    changes: dict[str, Any] = {
        "policy": _shield(actor.policy, tokenizer),
        "collator": collator,
        "rejections": Counter(),
        "episode_counts": Counter(),
    }
    if engine is not None:
        return replace(actor, engine=engine, **changes)
    own = {name: getattr(actor, name) for name in Actor.__dataclass_fields__} | changes
    return AnsweredActor(**own, answers=answers or [])


def _shield(policy: Policy, tokenizer: Any) -> Policy:
    """The policy without its log-probs, which would be those of weights that an update is changing."""
    shielded = copy.copy(policy)
    vars(shielded).update(tokenizer=tokenizer, compute_hidden=_refuse_weights, compute_log_probs=_refuse_weights)
    return shielded


def _refuse_weights(*_: Any) -> NoReturn:
    _refuse("log-probs of the policy while it is updated")


def _refuse(what: str) -> NoReturn:
    raise UserError(f"a rollout that is made ahead asks for {what}", key="data.source.max_staleness", remedy=REMEDY)
