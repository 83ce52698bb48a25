"""What gives the answers: a policy in this process, or a server that speaks OpenAI's protocol."""

from __future__ import annotations

import itertools
import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from feedback.types import Message

Settings = dict[str, Any]
Tell = Callable[[str], None]
"""Is told each piece of an answer's text as soon as it is written."""
PASSED_ON = (
    "temperature", "top_p", "max_tokens", "max_completion_tokens", "stop", "seed", "tools", "tool_choice",
    "parallel_tool_calls", "presence_penalty", "frequency_penalty", "response_format", "reasoning_effort",
)  # fmt: skip
"""Settings of a request that a server behind is given."""


@dataclass(frozen=True)
class Answer:
    """One answer."""

    text: str
    """Its words, as the policy wrote them."""
    calls: tuple[dict[str, Any], ...] = ()
    """Tools that it calls, each `{"id", "name", "arguments"}` with the arguments as JSON text."""
    finish: str = "stop"
    """stop, length or tool_calls."""
    ids: tuple[int, ...] | None = None
    """Token ids as sampled, where they are known."""
    log_probs: tuple[float, ...] | None = None
    """Log-prob (nats) of each id."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    weights: str = ""
    """Which weights gave it."""


class Refused(ValueError):
    """A request that cannot be answered as it is; the message says why."""


class Answerer(ABC):
    """Gives answers, one at a time or several at once."""

    name: str
    """How clients call the model."""

    @abstractmethod
    def answer(self, messages: tuple[Message, ...], settings: Settings, tell: Tell | None = None) -> Answer:
        """One answer.

        Args:
            messages: the conversation, checked.
            settings: the request's other fields.
            tell: may be told pieces of the text while it is written, in order, from its beginning; what it is not told
                comes with the answer.

        Raises:
            Refused: a request that cannot be answered.
            ConnectionError: the server behind is away.
        """


class Upstream(Answerer):
    """A server behind; its weights are its own."""

    def __init__(self, base_url: str, model: str, key: str | None, timeout: float):
        import openai

        self.name = model
        self._openai = openai
        self._client = openai.OpenAI(base_url=base_url, api_key=key or "none", timeout=timeout, max_retries=2)

    def answer(self, messages: tuple[Message, ...], settings: Settings, tell: Tell | None = None) -> Answer:
        passed = {name: settings[name] for name in PASSED_ON if settings.get(name) is not None}
        sent = [_write_arguments(message) for message in messages]
        try:
            reply = self._client.chat.completions.create(model=self.name, messages=sent, **passed)
        except self._openai.BadRequestError as error:
            raise Refused(f"the server behind refused it (status {error.status_code})") from None
        except self._openai.OpenAIError as error:  # its text may repeat the key
            raise ConnectionError(f"the server behind did not answer ({type(error).__name__})") from None
        choice = reply.choices[0] if reply.choices else None
        if choice is None:
            raise ConnectionError("the server behind answered nothing")
        calls = tuple(
            {"id": call.id, "name": call.function.name, "arguments": call.function.arguments}
            for call in choice.message.tool_calls or ()
            if call.type == "function"
        )
        usage = reply.usage
        return Answer(
            choice.message.content or "",
            calls,
            choice.finish_reason or "stop",
            prompt_tokens=usage.prompt_tokens if usage else 0,
            completion_tokens=usage.completion_tokens if usage else 0,
            weights=reply.model or self.name,
        )


def _write_arguments(message: Message) -> Any:
    """A message as the protocol has it: arguments of calls as JSON text."""
    calls = [
        call | {"function": call["function"] | {"arguments": _to_text(call["function"]["arguments"])}}
        for call in message.get("tool_calls", ())
    ]
    return message | ({"tool_calls": calls} if calls else {})


def _to_text(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def number_calls(calls: list[dict[str, Any]], counter: itertools.count[int]) -> tuple[dict[str, Any], ...]:
    """Calls with ids of their own: clients send a tool's reply under the id of its call."""
    return tuple(call | {"id": f"call_{next(counter)}"} for call in calls)
