"""What a command's end becomes: an exit code, and a message where the user can correct something."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

EXPECTED_ERROR = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells report it
BROKEN_PIPE = 141  # 128 + SIGPIPE


def is_expected(error: Exception) -> bool:
    """Whether the error is one that the user can correct or asked for, so that its message is enough."""
    from fdt.errors import Interrupted, UserError
    from feedback.faults import DataError

    return isinstance(error, UserError | DataError | Interrupted)


def run_command(command: Callable[[], int | None]) -> int:
    """Runs one command and returns its exit code.

    Raises:
        Exception: whatever it raises, except the errors that a user can correct.
    """
    try:
        return command() or 0
    except KeyboardInterrupt:
        print("fdt: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (`| head`) left; without this, Python complains once more while it shuts down.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except Exception as error:
        if not is_expected(error):
            raise
        print(f"fdt: {error}", file=sys.stderr)
        return int(getattr(error, "exit_code", EXPECTED_ERROR))
