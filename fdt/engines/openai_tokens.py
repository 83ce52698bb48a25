"""Answers of a model that somebody else serves."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from fdt.engines.served import Served, read_key
from fdt.errors import UserError
from fdt.policy.policy import Policy

if TYPE_CHECKING:
    from fdt.engines.completions import Away, Completions


@dataclass(frozen=True, kw_only=True)
class OpenAITokens(Served):
    """Any server with an OpenAI-compatible completions endpoint that returns token ids and log-probs.

    Its weights stay as they are: for `fdt predict` and `validate`. Training on its answers needs a mismatch gate, since
    the policy that trains moves away from the one that answers.
    """

    url: str
    """The server's address up to and including /v1."""
    model: str
    """The model's name on the server; it must have the tokenizer of model.base."""
    key_variable: str | None = None
    """Name of the environment variable that holds the key; null sends none."""

    @property
    def bends(self) -> str | None:
        return f"a server ({self.url}) whose weights do not follow the policy's"

    def reach(self, policy: Policy) -> Completions:
        from fdt.engines.completions import Completions

        made = Completions(
            self.url.rstrip("/"),
            read_key(self.key_variable),
            self.model,
            policy.tokenizer.eos_token_id,
            self.deadline,
            self.concurrency,
        )
        self._compare(made, policy)
        return made

    def _compare(self, made: Completions, policy: Policy) -> None:
        """One word, decoded by both sides, before anything else is asked: once for each process."""
        if self._seen:
            return
        from fdt.engines.completions import Ask

        (answer,) = made.ask([Ask(policy.tokenizer("Once upon a time")["input_ids"], 8, None)])
        own = policy.tokenizer.decode(answer.ids, skip_special_tokens=False)
        if "".join(own.split()) != "".join(answer.text.split()):
            raise UserError(
                "the server has another tokenizer than the policy",
                path=self.url,
                got=answer.text,
                expected=own,
                key="data.engine.init_args.model",
                remedy="serve a model with the tokenizer of model.base",
            )
        self._seen.append(True)

    @cached_property
    def _seen(self) -> list[bool]:
        return []

    def lost(self, away: Away) -> None:
        from fdt.engines.completions import Forgotten

        if isinstance(away, Forgotten):
            raise UserError(
                "the server has no such model",
                path=self.url,
                got=self.model,
                key="data.engine.init_args.model",
                remedy="GET /v1/models lists those it has",
            ) from away
