"""Token ids to an OpenAI-compatible server and back: requests in flight together, replies read strictly.

The completions endpoint takes a prompt as a list of token ids. What comes back as ids is not in the protocol: vLLM's
``return_token_ids`` adds them, and ``return_tokens_as_token_ids`` writes each token as ``token_id:N``.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import openai

from fdt.errors import UserError
from feedback.gateway.gateway import run_blocking
from feedback.gateway.wire import TEMPORARY, http, open_client

PREFIX = "token_id:"
OWN = {
    "top_p": 1.0,
    "top_k": -1,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
"""The policy's own distribution, spelt out: what a request leaves open a server fills from the model's own settings."""


class ServerUnavailable(Exception):
    """No answer now, perhaps later: nothing listens, the connection broke, the server is out of order."""


class ModelNotFound(ServerUnavailable):
    """The server does not know the model that it was asked for: it may have been started anew."""


@dataclass(frozen=True)
class CompletionRequest:
    """One prompt."""

    prompt: Sequence[int]
    """Its token ids."""
    tokens: int
    """Most tokens of the answer."""
    seed: int | None
    """None decodes greedily."""
    stop: str | None = None
    """Text that ends the answer besides the end token."""


@dataclass(frozen=True)
class Completion:
    """What the server wrote."""

    ids: tuple[int, ...]
    log_probs: tuple[float, ...]
    """Nats, one for each id."""
    text: str
    """The server's own decoding of the ids."""
    stopped: bool
    """Whether the text asked for as ``Ask.stop`` ended it."""


@dataclass(frozen=True)
class CompletionsClient:
    """One model of one server."""

    url: str
    """Up to and including /v1."""
    key: str | None
    model: str
    eos: int
    """The id that ends an answer; the server's own notion of an end does not count."""
    deadline: float
    """Seconds for one request."""
    concurrency: int
    """Requests in flight at once."""
    listed: int = 1
    """Most likely tokens to be listed beside the one drawn, which nobody reads: servers other than vLLM need 1."""

    def complete(self, asks: Sequence[CompletionRequest]) -> list[Completion]:
        """An answer for each.

        Raises:
            Away: where any of them failed for a reason that may pass.
            UserError: where the server refuses a request, or gives no token ids or log-probs.
        """
        return run_blocking(self._complete_all(asks))

    async def _complete_all(self, asks: Sequence[CompletionRequest]) -> list[Completion]:
        client, turn = open_client(self.url, self.key, self.deadline), asyncio.Semaphore(self.concurrency)

        async def complete_one(ask: CompletionRequest) -> Completion:
            async with turn:
                return parse_reply(await call(client, "/completions", self.build_body(ask)))

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(complete_one(ask)) for ask in asks]
        except ExceptionGroup as group:
            raise group.exceptions[0] from None  # the first one cancelled the others
        finally:
            await client.close()
        return [task.result() for task in tasks]

    def build_body(self, ask: CompletionRequest) -> dict[str, Any]:
        """The request."""
        drawn = {"temperature": 0.0} if ask.seed is None else {"temperature": 1.0, "seed": ask.seed}
        return {
            "model": self.model,
            "prompt": list(ask.prompt),
            "max_tokens": ask.tokens,
            **OWN,
            **drawn,
            "logprobs": self.listed,
            "return_token_ids": True,
            "return_tokens_as_token_ids": True,
            "ignore_eos": True,
            "stop_token_ids": [self.eos],
            "skip_special_tokens": False,
            "spaces_between_special_tokens": False,
            **({} if ask.stop is None else {"stop": [ask.stop], "include_stop_str_in_output": True}),
        }


def call_endpoint(url: str, key: str | None, deadline: float, path: str, body: Mapping[str, Any] | None = None) -> Any:
    """What one call beside the completions returns: POST where there is a body, else GET.

    Raises:
        Away, UserError: as `Completions.ask`.
    """

    async def call_once() -> Any:
        client = open_client(url, key, deadline)
        try:
            return await call(client, path, body)
        finally:
            await client.close()

    return run_blocking(call_once())


async def call(client: openai.AsyncOpenAI, path: str, body: Mapping[str, Any] | None) -> Any:
    """The parsed reply to one request, or its text where it is no JSON."""
    try:
        if body is None:
            response = await client.get(path, cast_to=http.Response)
        else:
            response = await client.post(path, cast_to=http.Response, body=dict(body))
    except openai.APIStatusError as error:
        raise _convert_status_error(error, path, client) from None
    except (openai.OpenAIError, http.HTTPError) as error:
        cause = error.__cause__ or error
        raise ServerUnavailable(f"no connection ({type(cause).__name__})") from None
    try:
        return json.loads(response.content)
    except ValueError:
        return response.text


def _convert_status_error(error: openai.APIStatusError, path: str, client: openai.AsyncOpenAI) -> Exception:
    said = error.response.text[:600].replace(client.api_key, "[key]")
    status = error.status_code
    if status == 404 and path == "/completions" and '"detail"' not in said[:12]:
        return ModelNotFound(f"status 404: {said}")
    if status == 429 or (status in TEMPORARY and (path == "/completions" or status != 500)):
        return ServerUnavailable(f"status {status}: {said}")
    return UserError(
        f"the server refuses {path}", path=str(client.base_url), got=f"status {status}: {said}", key="data.engine"
    )


def parse_reply(reply: Any) -> Completion:
    """A reply of the completions endpoint.

    Raises:
        UserError: where it has no token ids or no log-probs, or not one for each id.
    """
    try:
        choice = reply["choices"][0]
        logged = choice.get("logprobs") or {}
        tokens, values = logged.get("tokens") or [], logged.get("token_logprobs")
        ids = choice.get("token_ids")
        if ids is None and all(str(token).startswith(PREFIX) for token in tokens):
            ids = [int(token.removeprefix(PREFIX)) for token in tokens]
        text, reason = choice.get("text") or "", choice.get("stop_reason")
    except (TypeError, KeyError, IndexError, AttributeError, ValueError):
        raise _build_reply_error("a reply of another layout: " + str(reply)[:200]) from None
    if not ids and text:
        raise _build_reply_error("text without token ids")
    if values is None or len(values) != len(ids or ()):
        raise _build_reply_error(
            "no log-probs" if values is None else f"{len(values)} log-probs for {len(ids or ())} tokens"
        )
    if any(not isinstance(value, int | float) or math.isnan(value) for value in values):
        raise _build_reply_error("a log-prob that is no number")
    return Completion(tuple(ids or ()), tuple(map(float, values)), text, isinstance(reason, str))


def _build_reply_error(got: str) -> UserError:
    return UserError(
        "the server's replies cannot be trained on or measured",
        got=got,
        key="data.engine",
        expected="choices[0] with token_ids and logprobs.token_logprobs, one for each token",
        remedy="use a server that returns them, such as vLLM with return_token_ids",
    )
