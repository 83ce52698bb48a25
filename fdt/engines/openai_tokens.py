"""Answers of a model that somebody else serves."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from fdt.engines.base import Engine
from fdt.engines.served import ServerEngine, read_key
from fdt.errors import UserError
from fdt.policy.policy import Policy

if TYPE_CHECKING:
    from fdt.engines.completions import CompletionsClient, ServerUnavailable


@dataclass(frozen=True, kw_only=True)
class OpenAITokens(ServerEngine):
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
    def off_policy_reason(self) -> str | None:
        return f"a server ({self.url}) whose weights do not follow the policy's"

    def freeze(self, policy: Policy) -> Engine:
        return self  # its weights are frozen anyway

    def connect(self, policy: Policy) -> CompletionsClient:
        from fdt.engines.completions import CompletionsClient

        client = CompletionsClient(
            self.url.rstrip("/"),
            read_key(self.key_variable),
            self.model,
            policy.stop_ids,
            self.timeout,
            self.concurrency,
        )
        self._check_tokenizer(client, policy)
        return client

    def _check_tokenizer(self, client: CompletionsClient, policy: Policy) -> None:
        """Some tokens, decoded by both sides, before anything else is asked: once for each process."""
        if self._checked:
            return
        from fdt.engines.completions import CompletionRequest

        (answer,) = client.complete([CompletionRequest(policy.tokenizer("Once upon a time")["input_ids"], 8, None)])
        own = str(policy.tokenizer.decode(list(answer.ids), skip_special_tokens=False))
        if "".join(own.split()) != "".join(answer.text.split()):
            raise UserError(
                "the server has another tokenizer than the policy",
                path=self.url,
                got=answer.text,
                expected=own,
                key="data.engine.init_args.model",
                remedy="serve a model with the tokenizer of model.base",
            )
        self._checked.append(True)

    @cached_property
    def _checked(self) -> list[bool]:
        """Holds an entry once the tokenizer was compared; a list, since the settings are frozen."""
        return []

    def handle_outage(self, away: ServerUnavailable) -> None:
        from fdt.engines.completions import ModelNotFound

        if isinstance(away, ModelNotFound):
            raise UserError(
                "the server has no such model",
                path=self.url,
                got=self.model,
                key="data.engine.init_args.model",
                remedy="GET /v1/models lists those it has",
            ) from away
