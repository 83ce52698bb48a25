"""A chat-completions server on 127.0.0.1 that misbehaves as it is told: standard library alone, in a thread."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Call:
    """One request as it arrived."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    nth: int
    """How often this very prompt has come, from 1."""

    @property
    def prompt(self) -> str:
        return self.body["messages"][-1]["content"]


@dataclass
class Answer:
    """What the server does with a call."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    drip: float = 0.0
    """Seconds between two bytes of the body; 0 sends it whole."""
    cut: int | None = None
    """Reset the connection after so many bytes of the body."""


def completion(text: str | None, **changes: Any) -> Answer:
    """A proper reply with that text."""
    content = {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }
    return Answer(json.dumps(content | changes).encode())


def fault(status: int, message: str = "", code: str | None = None, **headers: str) -> Answer:
    """An error in the protocol's layout."""
    body = json.dumps({"error": {"message": message, "code": code, "type": code}}).encode()
    return Answer(body, status, {name.replace("_", "-"): value for name, value in headers.items()})


class Server:
    """Answers every call with what `behave` returns for it; a context manager."""

    def __init__(self, behave: Callable[[Call], Answer], port: int = 0):
        self.behave, self.port = behave, port
        self.calls: list[Call] = []
        self.seen: Counter[str] = Counter()
        self.flying = self.most = 0
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.ready = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Server:
        self.thread.start()
        assert self.ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        server = self.loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=2048))
        self.port = server.sockets[0].getsockname()[1]
        self.ready.set()
        self.loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *lines = head.decode("latin-1").split("\r\n")
                fields = [line.partition(":") for line in lines if line]
                headers = {name.lower(): value.strip() for name, _, value in fields}
                body = json.loads(await reader.readexactly(int(headers.get("content-length", 0))) or "{}")
                if not await self._answer(writer, first.split()[1], headers, body):
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has hung up
        finally:
            writer.close()

    async def _answer(
        self, writer: asyncio.StreamWriter, path: str, headers: dict[str, str], body: dict[str, Any]
    ) -> bool:
        name = json.dumps(body.get("messages"))
        self.seen[name] += 1
        call = Call(path, headers, body, self.seen[name])
        self.calls.append(call)
        self.flying += 1
        self.most = max(self.most, self.flying)
        try:
            answer = self.behave(call)
            await asyncio.sleep(answer.delay)
        finally:
            self.flying -= 1
        given = {"content-type": "application/json", "content-length": str(len(answer.body))} | answer.headers
        lines = [f"HTTP/1.1 {answer.status} X", *(f"{key}: {value}" for key, value in given.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        if answer.cut is not None:
            writer.write(answer.body[: answer.cut])
            await writer.drain()
            writer.transport.abort()
            return False
        if answer.drip:
            for byte in answer.body:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(answer.drip)
        else:
            writer.write(answer.body)
        await writer.drain()
        return True
