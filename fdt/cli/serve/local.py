"""A policy in this process, which takes a run's newest weights between two answers."""

from __future__ import annotations

import itertools
import os
import secrets
import threading
from pathlib import Path
from typing import Any

from fdt.checkpoint_files import find_newest
from fdt.cli.run.runs import LAST
from fdt.cli.serve.answers import Answer, Answerer, Refused, Settings, Tell, number_calls
from fdt.data.tokenization import tokenize_prompt
from fdt.data.tool_calls import read_calls
from fdt.engines import HuggingFace
from fdt.engines.base import Limit
from fdt.errors import UserError
from fdt.policy.export import load, reload
from fdt.policy.policy import Policy
from fdt.rollout.turn_loop import build_turn
from feedback.types import Message

Stamp = tuple[int, int, int]
UNFINISHED = "\ufffd"
"""How a character is decoded whose bytes are not all there yet."""


class LocalPolicy(Answerer):
    """One answer at a time, with the weights that the run's last checkpoint holds when it begins."""

    def __init__(self, model: str, run: Path | None, max_new_tokens: int):
        """
        Args:
            model: name or folder of the base, which answers until the run has a checkpoint.
            run: the folder of the run that trains; None: the weights stay.
            max_new_tokens: of an answer whose request names no limit.
        """
        self.name = model
        self.run = run
        self.max_new_tokens = max_new_tokens
        self._lock = threading.Lock()
        self._calls = itertools.count(secrets.randbelow(10**9))
        self._stamp: Stamp | None = None
        self._weights = "base"
        self.policy: Policy | None = None
        self._update()
        if self.policy is None:
            self.policy = Policy(model, None, dtype="float32").eval()

    def answer(self, messages: tuple[Message, ...], settings: Settings, tell: Tell | None = None) -> Answer:
        with self._lock:
            self._update()
            assert self.policy is not None
            policy = self.policy
            tools = settings.get("tools") or ()
            try:
                prompt = tokenize_prompt(messages, policy.tokenizer, tools)
            except ValueError as error:
                raise Refused(str(error)) from None
            most = settings.get("max_completion_tokens") or settings.get("max_tokens") or self.max_new_tokens
            room = most if policy.positions is None else min(most, policy.positions - len(prompt))
            if type(most) is not int or room < 1:
                raise Refused(f"{len(prompt)} tokens of prompt leave no room in {policy.positions} positions")
            engine, seed = build_engine(settings)
            listen = None if tell is None else TokenTeller(policy.tokenizer, tell)
            (sample,) = engine.generate(policy, [prompt], seed, [Limit(tokens=room)], listen)
            turn = build_turn(sample, policy.tokenizer)
            try:
                calls = number_calls(read_calls(turn.text), self._calls) if tools else ()
            except ValueError:  # a call that is none stays text: the client sees what the policy wrote
                calls = ()
            is_whole = sample.ids[-1:] and sample.ids[-1] in policy.stop_ids
            finish = "tool_calls" if calls else "stop" if is_whole else "length"
            return Answer(
                turn.text, calls, finish, sample.ids, sample.log_probs, len(prompt), len(sample.ids), self._weights
            )

    def _update(self) -> None:
        """Takes the weights of a checkpoint that is new. One that cannot be read changes nothing and is tried again."""
        path = None if self.run is None else self.run / LAST
        stamp = _read_stamp(path)
        if path is None or stamp is None or stamp == self._stamp:
            return
        try:
            newest = find_newest(path.parent) or path
            self.policy, facts = load(newest) if self.policy is None else reload(self.policy, newest)
        except UserError as error:
            print(f"fdt: {error} The weights stay as they were.", flush=True)
            return
        self._stamp = stamp
        self._weights = f"step {facts['steps']}"
        print(f"fdt: serving the weights of {self._weights}", flush=True)


class TokenTeller:
    """Tells the text of an answer, token by token: what is told is the beginning of what all tokens are decoded to."""

    def __init__(self, tokenizer: Any, tell: Tell):
        self._tokenizer = tokenizer
        self._tell = tell
        self._ids: list[int] = []
        self._told = ""
        # Such a tokenizer takes spaces back once it has seen what follows.
        self._is_exact = not getattr(tokenizer, "clean_up_tokenization_spaces", False)

    def __call__(self, place: int, token: int) -> None:
        """Takes the next token, and tells what it adds once its last character is whole."""
        self._ids.append(token)
        text = self._tokenizer.decode(self._ids, skip_special_tokens=True) if self._is_exact else ""
        if len(text) > len(self._told) and text.startswith(self._told) and not text.endswith(UNFINISHED):
            self._tell(text[len(self._told) :])
            self._told = text


def build_engine(settings: Settings) -> tuple[HuggingFace, int | None]:
    """The engine and the seed of a request; temperature 0 is greedy, without a seed.

    Raises:
        Refused: settings that would sample from another distribution than training can account for.
    """
    temperature = settings.get("temperature")
    temperature = 1.0 if temperature is None else temperature
    if not isinstance(temperature, int | float) or not 0 <= temperature <= 2:
        raise Refused("temperature: expected 0 to 2")
    for name, neutral in (("top_p", 1), ("presence_penalty", 0), ("frequency_penalty", 0), ("n", 1), ("stop", None)):
        if settings.get(name) not in (None, neutral, [], float(neutral or 0)):
            raise Refused(f"{name}: a policy that is trained answers from its own distribution; leave it out")
    if temperature == 0:
        return HuggingFace(), None
    seed = settings.get("seed")
    return HuggingFace(temperature=float(temperature)), seed if type(seed) is int else secrets.randbelow(2**31)


def _read_stamp(path: Path | None) -> Stamp | None:
    """What tells one version of a file from another; None where there is none."""
    try:
        found = os.stat(path) if path is not None else None
    except OSError:
        return None
    return None if found is None else (found.st_mtime_ns, found.st_ino, found.st_size)
