"""Ends a server when the run that started it is gone, however that ended: ``python keeper.py PID FOLDER``.

Its standard input is a pipe that the run holds. When the pipe closes, the process group of the server is ended, and
with it whatever the server started. The server's folder is removed too, unless the run wrote something into the pipe:
then it is there to do that itself. Standard library alone: this is run as a file.
"""

import os
import shutil
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
    alone = not sys.stdin.buffer.read()
    end(int(sys.argv[1]))
    if alone:
        shutil.rmtree(sys.argv[2], ignore_errors=True)
