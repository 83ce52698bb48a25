"""What goes into the gateway and what comes out: a request, a reply or a failure, and the errors that stop a job."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from feedback.faults import DataError
from feedback.types import Message

FORMAT = "1"
"""Part of every key: counts up when a request is sent in another way, so that old replies are not taken for new."""


@dataclass(frozen=True)
class Sampling:
    """How the server is asked to generate."""

    temperature: float | None = 0.0
    """Sampling temperature; null leaves it to the server, as some reasoning models demand."""
    top_p: float | None = None
    """Nucleus mass; null leaves it to the server."""
    max_tokens: int = 1024
    """Most tokens of one reply; also what the budget reserves for it."""
    seed: int | None = None
    """Seed for servers that take one."""

    def as_body(self, limit: str) -> dict[str, Any]:
        """The fields of the request body that are set; `limit` names the one for the length."""
        given = {"temperature": self.temperature, "top_p": self.top_p, limit: self.max_tokens, "seed": self.seed}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class Request:
    """One chat completion that is wanted."""

    messages: tuple[Message, ...]
    """The conversation."""
    sampling: Sampling = Sampling()
    """How to generate."""
    schema: Mapping[str, Any] | None = None
    """JSON schema of the reply; servers that can are asked to keep to it."""
    sample: int = 0
    """Number of the sample: equal requests with different numbers are asked separately."""
    tag: str = ""
    """Whatever the caller wants to see in messages, such as a row's id; not part of the key."""

    def compute_key(self, server: Mapping[str, Any]) -> str:
        """SHA-256 (hex) over all that can change the reply; `server` holds address, model and extra fields."""
        content = {
            "format": FORMAT,
            "server": dict(server),
            "messages": list(self.messages),
            "sample": self.sample,
            "sampling": self.sampling.as_body("max_tokens"),
            "schema": self.schema,
        }
        text = json.dumps(content, sort_keys=True, ensure_ascii=True, default=dict)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def most_prompt_tokens(self) -> int:
        """An upper bound of the prompt's tokens: no tokenizer in use makes more than one of a byte, beside the
        template's own (at most 16 a message, and as many again for the answer's header)."""
        size = sum(len(_join_content(message).encode(errors="replace")) for message in self.messages)
        return size + 16 * (len(self.messages) + 1)

    @property
    def likely_prompt_tokens(self) -> int:
        """An estimate for prices: four characters a token, as English prose has."""
        return sum(len(_join_content(message)) for message in self.messages) // 4 + 4 * len(self.messages)


def _join_content(message: Message) -> str:
    """All that a server reads of a message beside its role."""
    return "".join(str(value) for name, value in message.items() if name != "role" and value)


@dataclass(frozen=True)
class Usage:
    """Tokens of calls."""

    prompt: int = 0
    """Tokens read."""
    completion: int = 0
    """Tokens written."""

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.prompt + other.prompt, self.completion + other.completion)

    def __sub__(self, other: Usage) -> Usage:
        return Usage(self.prompt - other.prompt, self.completion - other.completion)

    @property
    def total(self) -> int:
        """Read and written together."""
        return self.prompt + self.completion


@dataclass(frozen=True)
class Reply:
    """What a model wrote."""

    text: str
    """The message's content; reasoning that the server delivers apart is not in it."""
    usage: Usage = Usage()
    """Tokens as the server counted them; where it does not say, the upper bound that was reserved."""
    cached: bool = False
    """True when nothing was sent for it."""
    finish: str | None = None
    """Why it ended: stop, length, …"""


@dataclass(frozen=True)
class Failure:
    """Why there is no reply; never a number."""

    kind: str
    """refused, server, timeout, reset, rate limit, body (unreadable: HTML, broken JSON, no choices, no text)."""
    reason: str
    """One line for people; holds no key."""


class GatewayStop(DataError):
    """No further call makes sense: the job should stop, keep what it has, and be started again later."""


class Outage(GatewayStop):
    """The server could not be used for longer than the gateway's patience."""


class GatewayRefusal(GatewayStop):
    """The server refuses every call: wrong key, no credit, unknown model, or it redirects to another address."""


class BudgetExceeded(GatewayStop):
    """The next call could exceed the budget, so it was not sent."""
