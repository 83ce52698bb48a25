"""A stranger's chat template is rendered once in a process under limits, before it is rendered here without any.

jinja's sandbox keeps a template from the machine, not from nested loops or from a text of gigabytes. This module is
also that process: it imports jinja2 and nothing of fdt's.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from functools import lru_cache

SECONDS = 3
"""Processor time that a short conversation may take [s]; templates take milliseconds."""
MEMORY = 1 << 30
"""Address space of the process [bytes]."""
TOO_MUCH = 3
"""Status of a rendering that ran out of memory."""
CONVERSATION = [
    {"role": "user", "content": "a"},
    {"role": "assistant", "content": "b"},
    {"role": "user", "content": "c"},
]


@lru_cache(maxsize=16)
def measure_template(source: str) -> str | None:
    """What is wrong with how much a template takes for three short messages; None where nothing is.

    A template that fails otherwise is no matter of this check: it fails where it is used, with its own message.
    """
    command = [sys.executable, "-I", "-B", __file__]
    try:
        done = subprocess.run(
            command, input=source.encode(errors="replace"), capture_output=True, timeout=20 * SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"more than {20 * SECONDS} s"
    if done.returncode == TOO_MUCH:
        return f"more than {MEMORY >> 30} GiB"
    return f"more than {SECONDS} s" if done.returncode < 0 else None


def render(source: str) -> None:
    """Renders a template as transformers does, as far as time and memory go."""
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """transformers' own tag around what the policy wrote: here its body alone."""

        tags = {"generation"}

        def parse(self, parser):  # type: ignore[no-untyped-def]  # jinja's parser has no public type
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    made.filters["tojson"] = lambda value, **options: json.dumps(value)
    made.globals |= {"raise_exception": lambda message: message, "strftime_now": lambda form: form}
    made.from_string(source).render(
        messages=CONVERSATION, tools=None, documents=None, add_generation_prompt=True, bos_token="", eos_token=""
    )


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    try:
        render(sys.stdin.buffer.read().decode())
    except MemoryError:
        sys.exit(TOO_MUCH)
    except Exception:
        sys.exit(0)
