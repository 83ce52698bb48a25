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
        self.url = f"http://127.0.0.1:{port}/v1"
        self.key = secrets.token_urlsafe(24)
        self.log = folder / "server.log"
        kept = {name: value for name, value in os.environ.items() if name not in NOT_FOR_CHILDREN}
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
