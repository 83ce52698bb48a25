"""Who writes the drafts of a rewrite: the policy that is trained (`fdt.rollout.drafter`), or another model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from feedback.gateway import Gateway, Reply, Request, Sampling
from feedback.returns import check_list
from feedback.sanitize import escape_control_tokens, map_strings
from feedback.types import Message


class Drafter(ABC):
    """Answers prompts."""

    @abstractmethod
    def __call__(self, prompts: Sequence[list[Message]], each: int, seed: int) -> list[list[str]]:
        """Up to `each` drafts for every prompt, in order; an empty list where no draft came.

        `seed` makes the drafts repeatable where the model allows it.
        """


def run_drafter(drafter: Drafter, prompts: Sequence[list[Message]], each: int, seed: int) -> list[list[str]]:
    """The drafts that a plug writes for each prompt.

    Raises:
        DataError: where it does not return a list of texts for each.
    """
    found = check_list(drafter, drafter(prompts, each, seed), list | tuple, "lists of drafts", len(prompts))
    return [check_list(drafter, drafts, str, "drafts") for drafts in found]


@dataclass(frozen=True)
class GatewayDrafter(Drafter):
    """A model behind an API. What fails, or is cut off at the longest reply, is no draft; an outage stops the job."""

    gateway: Gateway
    """The server, its cache and its limits."""
    sampling: Sampling = Sampling(temperature=0.7)
    """How drafts are sampled; at temperature 0 several of one row would be the same."""

    def __call__(self, prompts: Sequence[list[Message]], each: int, seed: int) -> list[list[str]]:
        """What looks like a control token is broken before it is sent. What was asked before comes from the cache, so
        drafts are repeatable without the seed."""
        clean = [
            tuple(map_strings(message, lambda _, text: escape_control_tokens(text)) for message in prompt)
            for prompt in prompts
        ]
        requests = [Request(messages, self.sampling, sample=n) for messages in clean for n in range(each)]
        replies = self.gateway.ask(requests)
        drafts = [reply.text if isinstance(reply, Reply) and reply.finish != "length" else None for reply in replies]
        rows = (drafts[start : start + each] for start in range(0, len(drafts), each))
        return [[draft for draft in row if draft is not None] for row in rows]
