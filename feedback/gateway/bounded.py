"""A reply's body in bounded size: what a server sends is counted as it is inflated, never first held whole."""

from __future__ import annotations

import importlib
import zlib
from collections.abc import AsyncIterator
from typing import Any

import openai

# openai 2 stands on httpx, openai 3 on httpx2: the same classes, found through the one that its client derives from.
BASE = next(base for base in openai.DefaultAsyncHttpxClient.__mro__ if base.__name__ == "AsyncClient")
http = importlib.import_module(BASE.__module__.partition(".")[0])

LONGEST_BODY = 1 << 24
"""Bytes of the longest body, inflated: a text of `wire.LONGEST_TEXT` characters, each escaped, and what stands round
it."""
PACKINGS = ("gzip", "deflate")
"""Compressions that are inflated; a server is asked for none, but some proxies compress whatever passes."""


class OversizedBody(Exception):
    """A body beyond `LONGEST_BODY`, or packed in a way whose size cannot be bounded."""


class BoundedStream(http.AsyncByteStream):  # type: ignore[name-defined]  # the module is found at run time
    """A body as it arrives, inflated where it is packed; raises `OversizedBody` before more is held than allowed."""

    def __init__(self, stream: Any, packed: bool):
        self.stream = stream
        self.inflater = zlib.decompressobj(zlib.MAX_WBITS | 32) if packed else None  # gzip or zlib, as its header says
        self.size = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self.stream:
            content = self._inflate(chunk) if self.inflater is not None else chunk
            self.size += len(content)
            if self.size > LONGEST_BODY:
                raise OversizedBody(f"a body of over {LONGEST_BODY >> 20} MiB")
            yield content

    def _inflate(self, chunk: bytes) -> bytes:
        assert self.inflater is not None
        try:
            # One byte beyond the bound tells that there is more, and no more is inflated.
            return self.inflater.decompress(chunk, LONGEST_BODY - self.size + 1)
        except zlib.error:
            raise OversizedBody("a body that is not packed as its header says") from None

    async def aclose(self) -> None:
        """Closes the connection's stream."""
        await self.stream.aclose()


async def bound_response(response: Any) -> None:
    """The client's hook on each response, before its body is read.

    Raises:
        OversizedBody: where the body is packed in another way than `PACKINGS`.
    """
    packing = response.headers.get("content-encoding", "identity").strip().lower()
    if packing not in (*PACKINGS, "identity", ""):
        raise OversizedBody(f"a body packed as {packing[:40]!r}, which it was not asked for")
    response.stream = BoundedStream(response.stream, packing in PACKINGS)
    if "content-encoding" in response.headers:
        del response.headers["content-encoding"]
