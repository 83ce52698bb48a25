"""What stands before every request: the token, the host's name, the origin, and limits on size and number."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Iterable
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "::1")
COOKIE = "fdt_token"
Refuse = Callable[[int, str, str], Response]
"""Makes the answer to a request that is refused: status, a word for programs, a sentence for people."""


def refuse_as_openai(status: int, code: str, message: str) -> Response:
    """An error in the shape that OpenAI's clients read."""
    body = {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}
    headers = {"retry-after": "1"} if status == 429 else {}
    return JSONResponse(body, status, headers)


class Guard:
    """An ASGI middleware. A page of another site that the user has open cannot reach the server through the browser: on
    the loopback address only the names of this machine are answered, and a request that changes something must come
    from a page of this server, or from no page at all."""

    def __init__(
        self,
        app: ASGIApp,
        token: str | None,
        hosts: Iterable[str] = LOOPBACK,
        max_body: int = 1 << 20,
        max_concurrent: int = 64,
        refuse: Refuse = refuse_as_openai,
        open_paths: Iterable[str] = (),
    ):
        """
        Args:
            app: what answers the requests that pass.
            token: what a request must bring (`Authorization: Bearer`, the cookie, or once `?token=`); None: nothing.
            hosts: names that the `Host` header may hold where there is no token.
            max_body: bytes of a body.
            max_concurrent: requests that are answered at once; further ones are refused with 429.
            refuse: makes the answers to what does not pass.
            open_paths: that need no token.
        """
        self.app = app
        self.token = token
        self.hosts = frozenset(hosts)
        self.max_body = max_body
        self.max_concurrent = max_concurrent
        self.refuse = refuse
        self.open_paths = frozenset(open_paths)
        self.running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refusal = self.check_request(scope)
        if refusal is None and self.running >= self.max_concurrent:
            refusal = self.refuse(429, "too_many_requests", f"{self.running} requests are being answered already.")
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        self.running += 1
        try:
            body = await self._read_body(receive)
            if body is None:
                refusal = self.refuse(413, "too_large", f"The body is longer than {self.max_body} bytes.")
                await refusal(scope, receive, send)
            else:
                await self.app(scope, _replay_body(body, receive), send)
        finally:
            self.running -= 1

    def check_request(self, scope: Scope) -> Response | None:
        """The refusal of a request whose headers do not pass, or the redirect that lays a token of the address into a
        cookie; None where it passes."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self.token is None and _read_hostname(host) not in self.hosts:
            return self.refuse(403, "wrong_host", f"Asked for {host!r}; this server answers only to this machine.")
        origin = headers.get("origin")
        if origin is not None and scope["method"] not in ("GET", "HEAD") and urlsplit(origin).netloc != host:
            return self.refuse(403, "wrong_origin", f"A page of {origin!r} may not change anything here.")
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self.max_body:
            return self.refuse(413, "too_large", f"The body is longer than {self.max_body} bytes.")
        if self.token is None or scope["path"] in self.open_paths:
            return None
        return self._check_token(scope, headers)

    def _check_token(self, scope: Scope, headers: Headers) -> Response | None:
        assert self.token is not None
        asked = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        if scope["method"] == "GET" and self._is_token(asked.get("token", "")):
            response = RedirectResponse(scope["path"], 303)
            response.set_cookie(COOKIE, self.token, httponly=True, samesite="strict")
            return response
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self._is_token(given.strip()):
            return None
        if self._is_token(_read_cookie(headers.get("cookie", ""))):
            return None
        return self.refuse(401, "invalid_api_key", "No token, or a wrong one: Authorization: Bearer TOKEN is needed.")

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), (self.token or "").encode()) and bool(self.token)

    async def _read_body(self, receive: Receive) -> bytes | None:
        """The whole body; None where it is too long."""
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return b"".join(parts)
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self.max_body:
                return None
            if not message.get("more_body"):
                return b"".join(parts)


def _replay_body(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body once, and what the client does afterwards."""
    held: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return held.pop() if held else await receive()

    return replay


def _read_hostname(host: str) -> str:
    """The name in a `Host` header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _read_cookie(header: str) -> str:
    try:
        found = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object of a body.

    Raises:
        ValueError: for anything else.
    """
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError("The body is not JSON.") from None
    if not isinstance(found, dict):
        raise ValueError("The body is no JSON object.")
    return found
