"""Runs an ASGI application on an address of this machine until it is interrupted."""

from __future__ import annotations

import argparse
import ipaddress
import os
import secrets
import socket
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

from fdt.errors import UserError

TOKEN = "FDT_TOKEN"
"""The environment variable that holds the token: arguments are seen by every user of a machine."""


def add_address(parser: argparse.ArgumentParser, port: int) -> None:
    """The arguments that say where the server listens."""
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen on (default: 127.0.0.1, this machine alone). Any other needs a token with each "
        f"request: the environment variable {TOKEN}, or one that is made up and printed",
    )
    parser.add_argument("--port", type=int, default=port, help=f"port (default: {port}; 0: any that is free)")


def find_token(host: str) -> str | None:
    """The token that requests must bring: the environment's, or a new one where others than this machine can ask.

    Raises:
        UserError: a token in the environment that is too short.
    """
    given = os.environ.get(TOKEN)
    if given is not None and len(given) < 16:
        raise UserError(f"{len(given)} characters", expected="at least 16", key=TOKEN, remedy="Leave it out for a new.")
    return given or (None if is_loopback(host) else secrets.token_urlsafe(24))


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens, so that nobody else can take the port between its choice and its use.

    Raises:
        UserError: the address is taken, or none of this machine's.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        remedy = "Choose another with --port, or 0 for any that is free."
        got = f"{host}:{port} ({error.strerror if isinstance(error, OSError) else error})"
        raise UserError("cannot listen", got=got, remedy=remedy, key="--port") from None


def run_server(app: ASGIApp, listener: socket.socket, on_start: Callable[[], None], grace: int = 5) -> None:
    """Answers requests until SIGINT or SIGTERM.

    Args:
        app: the application.
        listener: as `bind` makes it.
        on_start: called when requests can be answered.
        grace: seconds that requests under way have at the end.
    """
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=grace, server_header=False
    )
    server = _Server(config, on_start)
    server.run(sockets=[listener])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_start: Callable[[], None]):
        super().__init__(config)
        self._on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_start()


def format_url(listener: socket.socket, token: str | None = None) -> str:
    """The address for a browser, with the token in it where there is one."""
    host, port, *_ = listener.getsockname()
    named = f"[{host}]" if ":" in host else host
    return f"http://{named}:{port}/" + (f"?token={token}" if token else "")
