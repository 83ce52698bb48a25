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
    """No answer now, perhaps later: no server there, a broken connection, a server out of order."""


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
    """Whether the text asked for as ``CompletionRequest.stop`` ended it."""


@dataclass(frozen=True)
class CompletionsClient:
    """One model of one server."""

    url: str
    """Up to and including /v1."""
    key: str | None
    model: str
    stops: tuple[int, ...]
    """The ids that end an answer; the server's own notion of an end does not count."""
    timeout: float
    """Seconds for one request."""
    concurrency: int
    """Requests in flight at once."""
    listed: int = 1
    """Most likely tokens to list beside the one drawn, which are not used: servers other than vLLM need 1."""

    def complete(self, requests: Sequence[CompletionRequest]) -> list[Completion]:
        """An answer for each.

        Raises:
            ServerUnavailable: where any of them failed for a reason that may pass.
            UserError: where the server refuses a request, or gives no token ids or log-probs.
        """
        return run_blocking(self._complete_all(requests))

    async def _complete_all(self, requests: Sequence[CompletionRequest]) -> list[Completion]:
        client = open_client(self.url, self.key, self.timeout)
        slots = asyncio.Semaphore(self.concurrency)

        async def complete_one(request: CompletionRequest) -> Completion:
            async with slots:
                return parse_reply(await call(client, "/completions", self.build_body(request)))

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(complete_one(request)) for request in requests]
        except ExceptionGroup as faults:
            raise faults.exceptions[0] from None  # the first one cancelled the others
        finally:
            await client.close()
        return [task.result() for task in tasks]

    def build_body(self, request: CompletionRequest) -> dict[str, Any]:
        """The request as the endpoint takes it."""
        sampling = {"temperature": 0.0} if request.seed is None else {"temperature": 1.0, "seed": request.seed}
        return {
            "model": self.model,
            "prompt": list(request.prompt),
            "max_tokens": request.tokens,
            **OWN,
            **sampling,
            "logprobs": self.listed,
            "return_token_ids": True,
            "return_tokens_as_token_ids": True,
            "ignore_eos": True,
            "stop_token_ids": list(self.stops),
            "skip_special_tokens": False,
            "spaces_between_special_tokens": False,
            **({} if request.stop is None else {"stop": [request.stop], "include_stop_str_in_output": True}),
        }


def call_endpoint(url: str, key: str | None, timeout: float, path: str, body: Mapping[str, Any] | None = None) -> Any:
    """What one call beside the completions returns: POST where there is a body, else GET.

    Raises:
        ServerUnavailable, UserError: as `CompletionsClient.complete`.
    """

    async def call_once() -> Any:
        client = open_client(url, key, timeout)
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
    text = error.response.text[:600].replace(client.api_key, "[key]")
    status = error.status_code
    if status == 404 and path == "/completions" and '"detail"' not in text[:12]:
        return ModelNotFound(f"status 404: {text}")
    if status == 429 or (status in TEMPORARY and (path == "/completions" or status != 500)):
        return ServerUnavailable(f"status {status}: {text}")
    return UserError(
        f"the server refuses {path}", path=str(client.base_url), got=f"status {status}: {text}", key="data.engine"
    )


def parse_reply(reply: Any) -> Completion:
    """A reply of the completions endpoint.

    Raises:
        UserError: where it has no token ids or no log-probs, or not one for each id.
    """
    try:
        choice = reply["choices"][0]
        logged = choice.get("logprobs") or {}
        tokens = logged.get("tokens") or []
        values = logged.get("token_logprobs")
        ids = choice.get("token_ids")
        if ids is None and all(str(token).startswith(PREFIX) for token in tokens):
            ids = [int(token.removeprefix(PREFIX)) for token in tokens]
        text = choice.get("text") or ""
        reason = choice.get("stop_reason")
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
