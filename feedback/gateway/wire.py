"""One try of one call through the openai client: a reply, or why there is none. Nothing else gets out."""

from __future__ import annotations

import json
import logging
import re
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any

import openai

from feedback.faults import format_value
from feedback.gateway.bounded import OversizedBody, bound_response, http
from feedback.gateway.endpoint import Endpoint
from feedback.gateway.types import Failure, GatewayRefusal, Reply, Request, Usage
from feedback.sanitize import map_strings, replace_surrogates

POOL = 16
"""Connections of one client: a pool searches all of its connections at each call, which hundreds make slow."""
LONGEST_TEXT = 1 << 20
"""Characters of the longest reply that is kept: with each escaped, its line in the log stays below 16 MiB."""
SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]*)?")
"""Retry-After as a number."""
NO_KEY = "none"
QUOTING = ("openai", "httpcore", "httpcore2")
"""Loggers that repeat what a server sent when they log everything; some servers send the key back."""
TEMPORARY = {408, 500, 502, 503, 504, 529}
OUTAGES = {502, 503, 529}
HOPELESS = {401: "the key", 402: "the credit", 403: "the key's rights", 404: "the address or the model's name"}


@dataclass(frozen=True)
class FailedAttempt:
    """A try that gave no reply."""

    failure: Failure
    retryable: bool = False
    """Another try may help."""
    certain_outage: bool = False
    """No request could have succeeded."""
    charged: bool = False
    """The server may have charged for it."""
    retry_after: float | None = None
    """Seconds after which the server wants to be asked again."""


class ChatClient:
    """The clients of one job. Make it and close it in the event loop that uses it."""

    def __init__(self, endpoint: Endpoint, key: str | None, lanes: int):
        self.endpoint = endpoint
        self.key = key or NO_KEY
        self.clients = [open_client(endpoint.base_url, key, endpoint.timeout) for _ in range(-(-lanes // POOL))]

    async def close(self) -> None:
        """Closes all connections."""
        for client in self.clients:
            await client.close()

    async def send(self, request: Request, lane: int) -> Reply | FailedAttempt:
        """One try. Raises `GatewayRefusal` where the answer would be the same for every request."""
        body = self._build_body(request)
        try:
            response = await self.clients[lane // POOL].post("/chat/completions", cast_to=http.Response, body=body)
            return self._parse_reply(request, response.content)
        except openai.APIStatusError as error:
            return self._handle_status(error, "response_format" in body)
        except OversizedBody as error:
            return self._build_unreadable(str(error))
        except openai.APITimeoutError as error:
            return _classify_error("timeout", error)
        except (openai.OpenAIError, http.HTTPError) as error:
            if isinstance(error.__cause__, OversizedBody):
                return self._build_unreadable(str(error.__cause__))
            return _classify_error("reset", error)

    def build_timeout(self) -> FailedAttempt:
        """A try that took longer than the timeout."""
        return FailedAttempt(
            Failure("timeout", f"no whole reply within {self.endpoint.timeout:g} s"), retryable=True, charged=True
        )

    def _build_body(self, request: Request) -> dict[str, Any]:
        messages = [
            {"content": ""} | map_strings({name: value for name, value in message.items() if value is not None}, _clean)
            for message in request.messages
        ]
        body = {"model": self.endpoint.model, "messages": messages, **dict(self.endpoint.extra_body)}
        if request.schema is not None and self.endpoint.capabilities["structured"]:
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "reply", "strict": True, "schema": dict(request.schema)},
            }
        return body | request.sampling.as_body(self.endpoint.max_tokens_field)

    def _parse_reply(self, request: Request, body: bytes) -> Reply | FailedAttempt:
        try:
            found = json.loads(body)
            choice = found["choices"][0]
            text = choice["message"]["content"]
        except (ValueError, RecursionError):
            return self._build_unreadable(
                "no JSON but " + format_value(self.scrub(body[:400].decode(errors="replace")))
            )
        except (TypeError, KeyError, IndexError):
            return self._build_unreadable(
                "JSON without choices[0].message.content: " + format_value(self.scrub(repr(found)[:400]))
            )
        if not isinstance(text, str) or len(text) > LONGEST_TEXT:
            return self._build_unreadable(f"content that is {'too long' if isinstance(text, str) else 'no text'}")
        most = Usage(request.most_prompt_tokens, request.sampling.max_tokens)
        finish = choice.get("finish_reason")
        return Reply(
            self.scrub(replace_surrogates(text)),
            _parse_usage(found.get("usage"), most),
            False,
            self.scrub(replace_surrogates(finish)) if isinstance(finish, str) else None,
        )

    @staticmethod
    def _build_unreadable(what: str) -> FailedAttempt:
        return FailedAttempt(Failure("body", f"the server sent {what}"), charged=True)

    def _handle_status(self, error: openai.APIStatusError, has_schema: bool) -> FailedAttempt:
        status = error.status_code
        reply = format_value(self.scrub(error.response.text[:400]))
        if 300 <= status < 400:
            target = self.scrub(error.response.headers.get("location", ""))
            raise self._build_refusal(
                f"a redirect ({status}) to {format_value(target)}", "none: prompts go to this host alone"
            )
        if status in HOPELESS or (status == 429 and _has_no_credit(error)):
            what = HOPELESS.get(status, "the credit")
            raise self._build_refusal(f"status {status}: {reply}", f"a server that accepts {what}")
        if status == 429:
            return FailedAttempt(
                Failure("rate limit", f"status 429: {reply}"),
                retryable=True,
                retry_after=parse_retry_after(error.response),
            )
        if status in TEMPORARY:
            return FailedAttempt(
                Failure("server", f"status {status}: {reply}"),
                retryable=True,
                certain_outage=status in OUTAGES,
                retry_after=parse_retry_after(error.response),
            )
        if status == 400 and has_schema and "response_format" in error.response.text:
            self.endpoint.capabilities["structured"] = False  # it knows no schemas; the prompt says the same in words
            return FailedAttempt(Failure("refused", reply), retryable=True)
        return FailedAttempt(Failure("refused", f"status {status}: {reply}"))

    def _build_refusal(self, got: str, expected: str) -> GatewayRefusal:
        return GatewayRefusal(
            self.endpoint.base_url,
            None,
            "gateway",
            got,
            expected,
            f"Check gateway.base_url, gateway.model and the variable {self.endpoint.api_key_env}.",
        )

    def scrub(self, text: str) -> str:
        """Text from the server without the key, which some servers echo."""
        return text.replace(self.key, "[key]") if self.key != NO_KEY else text


def open_client(base_url: str, key: str | None, timeout: float) -> openai.AsyncOpenAI:
    """A client without retries, redirects or a limit on connections. Make it in the event loop that uses it."""
    for name in QUOTING:
        logger = logging.getLogger(name)
        logger.setLevel(max(logger.getEffectiveLevel(), logging.INFO))
    limits = http.Limits(max_connections=None, max_keepalive_connections=None)
    transport = openai.DefaultAsyncHttpxClient(
        limits=limits,
        follow_redirects=False,
        timeout=http.Timeout(timeout),
        headers={"accept-encoding": "identity"},
        event_hooks={"response": [bound_response]},
        verify=load_certificates() if base_url.startswith("https") else False,
    )
    client = openai.AsyncOpenAI(api_key=key or NO_KEY, base_url=base_url, max_retries=0, http_client=transport)
    client.organization = None
    client.project = None
    return client


@lru_cache(maxsize=1)
def load_certificates() -> ssl.SSLContext:
    """The system's certificates, read once for all clients."""
    return http.create_ssl_context()


def _classify_error(kind: str, error: Exception) -> FailedAttempt:
    """A connection that failed: before anything was sent, or in the middle."""
    cause = error.__cause__ or error
    if isinstance(cause, (http.ConnectError, http.ConnectTimeout)):
        return FailedAttempt(
            Failure("server", f"no connection ({type(cause).__name__})"), retryable=True, certain_outage=True
        )
    return FailedAttempt(Failure(kind, f"the connection failed ({type(cause).__name__})"), retryable=True, charged=True)


def _parse_usage(found: Any, most: Usage) -> Usage:
    """The server's count of tokens; `most` where it gives none that makes sense."""
    numbers = [found.get(name) if isinstance(found, dict) else None for name in ("prompt_tokens", "completion_tokens")]
    read, written = (number if type(number) is int and number >= 0 else None for number in numbers)
    return Usage(most.prompt if read is None else read, most.completion if written is None else written)


def _has_no_credit(error: openai.APIStatusError) -> bool:
    return "insufficient_quota" in (error.code, error.type) or "insufficient_quota" in error.response.text[:2000]


def parse_retry_after(response: Any) -> float | None:
    """Seconds that the server asks to wait: Retry-After as a number or as a date (RFC 9110, section 10.2.3).

    A date is measured by the server's own clock where it shows one, else by ours.
    """
    header = response.headers.get("retry-after", "").strip()
    if SECONDS.fullmatch(header):
        return float(header)
    when = _parse_date(header)
    if when is None:
        return None
    now = _parse_date(response.headers.get("date", "")) or datetime.now(UTC)
    return max(0.0, (when - now).total_seconds())


def _parse_date(text: str) -> datetime | None:
    """A date of HTTP, in UTC where it names no zone; None for what is none."""
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return when if when.tzinfo is not None else when.replace(tzinfo=UTC)


def _clean(_: str, text: str) -> str:
    """A string of a message that UTF-8 can hold."""
    return text.encode(errors="replace").decode()
