"""What both trainers are given: the same prompts, scores, critiques and sizes, and how they are stepped in turn.

Each trainer is a process of its own, so that its peak memory is its own. It makes one optimiser step for each line that
it reads, and answers with one line of JSON; a driver writes to them in turn, so that what else the machine does meets
both.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

CRITIQUE = "The answer should be concrete, and name one example in its first sentence."
"""What is said of every answer: TRL's trainer takes its feedback from the prompt's record, not from a grader."""
HINT = "Feedback on an earlier answer: {critique}"
LEARNING_RATE = 1e-5
STEPS_ALONE: dict[str, Any] = {
    "max_epochs": -1,
    "limit_val_batches": 0,
    "num_sanity_val_steps": 0,
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
"""Settings of a Lightning trainer whose optimiser steps are timed, and nothing else."""
FILLERS = (" please", ".")
"""Words that fill a prompt up; the second is one token where the first takes several."""


@dataclass(frozen=True)
class Work:
    """One optimiser step, as both trainers take it."""

    model: str
    """Folder of the model."""
    algorithm: str = "grpo"
    """grpo, or sdpo: half a policy gradient on scores, half distillation from a teacher that read the critique."""
    prompts: int = 4
    """Prompts of a step."""
    generations: int = 4
    """Answers to each prompt."""
    prompt_tokens: int = 44
    """Tokens of every prompt, the chat template's included."""
    answer_tokens: int = 32
    """Most tokens of an answer."""
    steps: int = 3
    """Steps that are measured; one more before them is not."""
    rank: int = 16
    """Of the adapters."""
    k: int = 64
    """Outcomes listed per token in the distillation, beside a tail."""
    dtype: str = "bfloat16"
    """Of the base; adapters are float32 in both."""
    device: str = "cpu"
    rows: int = 16
    """Rows of one forward of TRL."""
    tokens: int = 4096
    """Tokens of one forward of fdt."""
    checkpointing: bool = False
    """Activations recomputed in the backward pass."""
    seed: int = 0

    @property
    def total(self) -> int:
        """Rollouts of a step."""
        return self.prompts * self.generations


def score_text(text: str) -> float:
    """A score in [0, 1] that differs between nearly all answers: the share of distinct characters."""
    return len(set(text)) / max(len(text), 1)


def score_episode(episode: Any) -> tuple[float, str]:
    """The same as a grader: a score, and the critique that every answer gets."""
    return score_text(episode.response), CRITIQUE


def make_prompts(tokenizer: Any, count: int, size: int) -> list[str]:
    """Texts whose conversation, rendered for an answer, has exactly `size` tokens.

    Raises:
        ValueError: where no filling of the text gives that many.
    """
    return [_fill_text(tokenizer, f"Explain number {n} at length", size) for n in range(10, 10 + count)]


def _fill_text(tokenizer: Any, text: str, size: int) -> str:
    def count_tokens(content: str) -> int:
        messages = [{"role": "user", "content": content}]
        return len(tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"])

    for filler in FILLERS:
        cost = max(1, count_tokens(text + filler) - count_tokens(text))
        text += filler * max(0, (size - count_tokens(text)) // cost)
    if (own := count_tokens(text)) != size:
        raise ValueError(f"prompt_tokens: got {size}, the nearest text has {own}; choose that number")
    return text


class Clock:
    """Seconds of a step by what they were spent on; what is inside of another part counts there alone."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)
        self.inside = False

    @contextlib.contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Adds the time of a block."""
        if self.inside:
            yield
            return
        self.inside = True
        began = self.now()
        try:
            yield
        finally:
            self.seconds[name] += self.now() - began
            self.inside = False

    def wrap(self, owner: Any, method: str, name: str) -> None:
        """Measures every call of a method of an object or class."""
        plain: Callable[..., Any] = getattr(owner, method)

        def measured(*arguments: Any, **options: Any) -> Any:
            with self.measure(name):
                return plain(*arguments, **options)

        setattr(owner, method, measured)

    def now(self) -> float:
        """The time, once the device has done what it was asked for."""
        if self.device == "cuda":
            import torch

            torch.cuda.synchronize()
        return time.perf_counter()


class Stepper:
    """A trainer's side of the conversation with the driver."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.answers: TextIO = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)  # whatever the libraries print goes beside the answers, not into them
        self.counts: dict[str, int] = defaultdict(int)
        self.began = 0.0
        self.computed = 0.0

    def wait(self) -> bool:
        """Waits for leave to make the next step; False at the end."""
        if sys.stdin.readline().strip() != "step":
            return False
        self.clock.seconds.clear()
        self.counts.clear()
        self.began = self.clock.now()
        self.computed = time.process_time()
        return True

    def report(self, **further: Any) -> None:
        """Tells what the step took."""
        seconds = self.clock.now() - self.began
        computed = time.process_time() - self.computed
        self._say(
            {"seconds": seconds, "computed": computed, "parts": dict(self.clock.seconds), **self.counts, **further}
        )

    def finish(self) -> None:
        """Tells the peak memory of the whole process."""
        self._say({"peak": measure_peak(self.clock.device)})

    def _say(self, content: dict[str, Any]) -> None:
        self.answers.write(json.dumps(content) + "\n")
        self.answers.flush()


def measure_peak(device: str) -> int:
    """Bytes: the resident set's high-water mark of this process, or what was allocated at most on a card."""
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated()
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
