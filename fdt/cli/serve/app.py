"""The routes of the proxy: chat completions, streamed or not, and the list of models."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from fdt.cli.serve.answers import Answer, Answerer, Refused, Tell
from fdt.cli.serve.recorder import Asked, Recorder
from fdt.cli.serve.sessions import MAIN, SIDE, read_request
from fdt.cli.web.guard import parse_object, refuse_as_openai
from feedback.faults import DataError

PIECE = 24
"""Characters of a piece of an answer that was not told while it was written."""
QUIET = 10.0
"""Seconds without a piece after which a comment keeps the line open."""
ROLE: dict[str, Any] = {"role": "assistant", "content": ""}
"""What a stream begins with."""
TRUE = ("1", "true", "yes", "on")


def build_app(answerer: Answerer, recorder: Recorder) -> Starlette:
    """The application."""
    proxy = Proxy(answerer, recorder)
    routes = [
        Route("/v1/chat/completions", proxy.complete, methods=["POST"]),
        Route("/v1/models", proxy.list_models),
        Route("/healthz", proxy.show_health),
    ]
    return Starlette(routes=routes)


class Proxy:
    """The handlers."""

    def __init__(self, answerer: Answerer, recorder: Recorder):
        self.answerer = answerer
        self.recorder = recorder

    async def show_health(self, request: Request) -> Response:
        """Whether requests are answered."""
        return JSONResponse({"status": "ok", "answers": self.recorder.num_answers})

    async def list_models(self, request: Request) -> Response:
        """The one model that there is."""
        model = {"id": self.answerer.name, "object": "model", "created": 0, "owned_by": "fdt"}
        return JSONResponse({"object": "list", "data": [model]})

    async def complete(self, request: Request) -> Response:
        """One answer; it is on record before its reply ends."""
        try:
            body = parse_object(await request.body())
            messages = read_request(body)
            kind, name, done = read_session(request, body)
        except ValueError as error:
            return refuse_as_openai(400, "bad_request", str(error))
        name, turn_id = self.recorder.begin(messages, name)
        user = body.get("user") if isinstance(body.get("user"), str) else None
        tools = tuple(body["tools"]) if isinstance(body.get("tools"), list) else ()
        asked = Asked(name, turn_id, messages, kind, done, user, tools)

        if body.get("stream"):
            options = body.get("stream_options") or {}
            usage = isinstance(options, dict) and bool(options.get("include_usage"))
            head = self._build_head(turn_id, "chat.completion.chunk")
            return StreamingResponse(self._stream(asked, body, head, usage), media_type="text/event-stream")
        try:
            answer = await run_in_threadpool(self._answer, asked, body)
        except (Refused, ConnectionError, DataError) as error:
            return refuse_as_openai(*describe_fault(error))
        choice = {"index": 0, "message": build_message(answer), "finish_reason": answer.finish, "logprobs": None}
        head = self._build_head(turn_id, "chat.completion")
        return JSONResponse(head | {"choices": [choice], "usage": build_usage(answer)})

    def _answer(self, asked: Asked, body: dict[str, Any], tell: Tell | None = None) -> Answer:
        answer = self.answerer.answer(asked.messages, body, tell)
        if left := self.recorder.finish(asked, answer):
            self.recorder.start_judge(*left)
        return answer

    async def _stream(
        self, asked: Asked, body: dict[str, Any], head: dict[str, Any], usage: bool
    ) -> AsyncIterator[str]:
        """The answer in pieces as it is written; what is left of it, and its end, are sent when it is on record."""
        pieces: asyncio.Queue[str | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def tell(piece: str) -> None:
            loop.call_soon_threadsafe(pieces.put_nowait, piece)

        task = asyncio.ensure_future(run_in_threadpool(self._answer, asked, body, tell))
        task.add_done_callback(lambda _: pieces.put_nowait(None))
        sent = ""
        async for piece in read_pieces(pieces):
            for delta in [] if sent or not piece else [ROLE]:
                yield format_delta(head, delta)
            yield format_delta(head, {"content": piece}) if piece else ": the policy is writing\n\n"
            sent += piece
        try:
            answer = task.result()
        except (Refused, ConnectionError, DataError) as error:
            status, code, text = describe_fault(error)
            yield format_event({"error": {"message": text, "type": "server_error", "code": code, "status": status}})
            return
        for delta in split_answer(answer, sent):
            yield format_delta(head, delta)
        yield format_delta(head, {}, answer.finish)
        if usage:
            yield format_event(head | {"choices": [], "usage": build_usage(answer)})
        yield "data: [DONE]\n\n"

    def _build_head(self, turn_id: str, kind: str) -> dict[str, Any]:
        return {"id": turn_id, "object": kind, "created": int(time.time()), "model": self.answerer.name}


def read_session(request: Request, body: dict[str, Any]) -> tuple[str, str | None, bool]:
    """Main or side, the session's name where the client gives one, and whether this is its last turn.

    Raises:
        ValueError: a turn type that there is not, or a name that is too long.
    """
    kind = request.headers.get("x-turn-type", str(body.get("turn_type") or MAIN)).lower()
    if kind not in (MAIN, SIDE):
        raise ValueError(f"X-Turn-Type: got {kind!r}, expected main or side")
    given = request.headers.get("x-session-id") or body.get("session_id")
    name = str(given).strip() if given is not None else None
    if name is not None and not (0 < len(name) <= 200 and name.isprintable()):
        raise ValueError("X-Session-Id: expected 1 to 200 printable characters")
    done = request.headers.get("x-session-done", str(body.get("session_done") or "")).lower()
    return kind, name, done in TRUE


def describe_fault(error: Exception) -> tuple[int, str, str]:
    """Status, code and message of an answer that could not be given."""
    if isinstance(error, Refused):
        return 400, "bad_request", str(error)
    if isinstance(error, ConnectionError):
        return 502, "upstream", str(error)
    return 507, "not_recorded", f"not answered, since it could not be recorded: {error}"


def build_message(answer: Answer) -> dict[str, Any]:
    """The message of an answer."""
    calls = [
        {"id": c["id"], "type": "function", "function": {"name": c["name"], "arguments": c["arguments"]}}
        for c in answer.calls
    ]
    return {"role": "assistant", "content": answer.text, "refusal": None} | ({"tool_calls": calls} if calls else {})


def split_answer(answer: Answer, sent: str = "") -> list[dict[str, Any]]:
    """The pieces of a streamed answer after those that were sent."""
    message = build_message(answer)
    left = answer.text[len(sent) :]
    pieces = [{"content": left[n : n + PIECE]} for n in range(0, len(left), PIECE)]
    calls = [{"tool_calls": [{"index": n, **call}]} for n, call in enumerate(message.get("tool_calls", ()))]
    return [*([] if sent else [ROLE]), *pieces, *calls]


async def read_pieces(pieces: asyncio.Queue[str | None]) -> AsyncIterator[str]:
    """What a queue is given until None comes; an empty text each time that nothing came for `QUIET` seconds."""
    while True:
        waiting = asyncio.ensure_future(pieces.get())
        while not (await asyncio.wait([waiting], timeout=QUIET))[0]:
            yield ""
        piece = waiting.result()
        if piece is None:
            return
        yield piece


def build_usage(answer: Answer) -> dict[str, int]:
    """Tokens read and written."""
    total = answer.prompt_tokens + answer.completion_tokens
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "total_tokens": total,
    }


def format_event(content: dict[str, Any]) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"


def format_delta(head: dict[str, Any], delta: dict[str, Any], finish: str | None = None) -> str:
    """One event of a stream: a piece of the answer, or with a reason its end."""
    return format_event(head | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
