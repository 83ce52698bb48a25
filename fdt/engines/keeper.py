"""Ends a server when the run that started it is gone, however that ended: ``python keeper.py PID``.

Its standard input is a pipe that the run holds and never writes to. When the pipe closes, the process group of the
server is ended, and with it whatever the server started. Standard library alone: this is run as a file.
"""

import os
import signal
import sys
import time

GRACE = 10.0
"""Seconds between asking and killing."""


def end(group: int) -> None:
    """Ends all processes of a group."""
    until = time.monotonic() + GRACE
    try:
        os.killpg(group, signal.SIGTERM)
        while time.monotonic() < until:
            os.killpg(group, 0)
            time.sleep(0.1)
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return  # the last one has gone


if __name__ == "__main__":
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)  # the run's own end is what counts
    sys.stdin.buffer.read()
    end(int(sys.argv[1]))
