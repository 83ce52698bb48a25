"""A server of this run's own: started on 127.0.0.1, watched, and ended with the run."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from fdt.engines.completions import ServerUnavailable, call_endpoint
from fdt.engines.vllm import keeper
from fdt.errors import UserError

NOT_FOR_CHILDREN = (
    "PYTHONPATH",
    "PYTHONHOME",
    "VIRTUAL_ENV",
    "RANK",
    "LOCAL_RANK",
    "NODE_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
)
"""Variables of this process that would mislead another environment's Python, or make it join the run's ranks."""
TAIL = 2500
"""Characters of the end of a server's log that a message repeats."""


SECRET = ("_API_KEY", "_TOKEN", "_SECRET", "_PASSWORD", "_CREDENTIALS", "_ACCESS_KEY", "_ACCESS_KEY_ID")
NEEDED = ("HF_", "HUGGING_FACE_", "VLLM_")
"""Secrets that a server needs: to load a model from the hub, and its own."""
LISTENING = "0A"
"""A socket's state in `/proc/net/tcp`."""


def is_for_children(name: str) -> bool:
    """Whether a server gets this variable: not the keys of judges and loggers, nor what would mislead it."""
    return name not in NOT_FOR_CHILDREN and (not name.upper().endswith(SECRET) or name.startswith(NEEDED))


def find_listeners(port: int) -> set[int]:
    """The users (ids) whose processes listen at a port of this machine; none where the system does not say."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            _, local, _, state, _, _, _, user, *_ = line.split()
            if state == LISTENING and int(local.rpartition(":")[2], 16) == port:
                found.add(int(user))
    return found


class Child:
    """One server process, in a session of its own.

    Args:
        command: what is run, given the port.
        folder: where it runs and leaves its log.
        variables: environment variables beside those of this process.
    """

    def __init__(self, command: Callable[[int], Sequence[str]], folder: Path, variables: dict[str, str]) -> None:
        with socket.socket() as place:
            place.bind(("127.0.0.1", 0))
            port = place.getsockname()[1]
        self.port = port
        self.url = f"http://127.0.0.1:{port}/v1"
        self.key = secrets.token_urlsafe(24)
        self.log = folder / "server.log"
        kept = {name: value for name, value in os.environ.items() if is_for_children(name)}
        # In the environment and not on the command line, which every user of the machine can read.
        kept |= {"VLLM_API_KEY": self.key} | variables
        with self.log.open("ab") as log:
            try:
                self.process = subprocess.Popen(
                    command(port),
                    cwd=folder,
                    env=kept,
                    start_new_session=True,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            except OSError as fault:
                raise UserError(
                    f"the server cannot be started: {fault}",
                    got=str(command(port)[0]),
                    key="data.engine.init_args.python",
                ) from fault
        watch = [sys.executable, "-I", keeper.__file__, str(self.process.pid), str(folder)]
        self.keeper = subprocess.Popen(watch, stdin=subprocess.PIPE, start_new_session=True)

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def wait(self, seconds: float) -> None:
        """Returns when the server answers.

        Raises:
            UserError: where it ends before, or takes longer.
        """
        until = time.monotonic() + seconds
        while self.is_alive and time.monotonic() < until:
            # The port was free when it was chosen. Whoever has taken it since must not be told the key.
            if strangers := find_listeners(self.port) - {os.geteuid()}:
                raise UserError(
                    "another user's process listens where the server was to",
                    got=f"user {strangers.pop()} at port {self.port}",
                    key="data.engine",
                    remedy="start again: another port is chosen",
                )
            try:
                call_endpoint(self.url, self.key, 5.0, self.url.removesuffix("/v1") + "/health")
                return
            except ServerUnavailable:
                time.sleep(0.5)
        how = "still loading" if self.is_alive else f"exit status {self.process.returncode}"
        raise UserError(
            "the server did not come up",
            got=how,
            key="data.engine",
            expected=f"it to answer within {seconds:g} s",
            remedy=f"the end of its log:\n{self.read_log_tail()}",
        )

    def read_log_tail(self) -> str:
        """The end of its log."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-TAIL:].strip()

    def stop(self) -> None:
        """Ends it and whatever it started."""
        assert self.keeper.stdin is not None
        self.keeper.stdin.write(b"the run goes on")
        self.keeper.stdin.close()
        self.process.wait()  # first: until it is reaped, its group has not gone, and the keeper would wait for that
        self.keeper.wait()
