"""An expert's solution or trajectory, split into steps that a policy learns one by one (SRL, arXiv 2510.25992)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby

from feedback.graders.similarity import strip_thinking
from feedback.hints.templates import load_template
from feedback.types import Episode, Message, Turn

NUMBER = re.compile(r"^[ \t]*(?:#+ )?(\*\*)?(?:step[ \t]+)?(\d{1,9})[.):](\*\*)?[ \t]*", re.IGNORECASE | re.MULTILINE)
BLANK = re.compile(r"\n[ \t]*\n")
PLACEHOLDER = re.compile(r"\{(question|steps)\}")
NONE = "(none)"


def split_numbered(text: str) -> list[str]:
    """The parts behind "1.", "2)", "Step 3:", ... at the beginnings of lines, as long as they count on from 1.

    Another number is text of its step. What stands before the first is no step and left out.
    """
    places: list[re.Match[str]] = []
    for found in NUMBER.finditer(text):
        if int(found[2]) == len(places) + 1:
            places.append(found)
    ends = [found.start() for found in places[1:]] + [len(text)]
    steps = zip(places, ends, strict=False)  # one end too many where there is no step
    # What was set in bold along with its number stays so.
    return [(found[1] or "") * (not found[3]) + text[found.end() : end].strip() for found, end in steps]


def split_paragraphs(text: str) -> list[str]:
    """The parts between blank lines."""
    return [part.strip() for part in BLANK.split(text) if part.strip()]


@dataclass(frozen=True)
class Sample:
    """One step to learn: what stood before it, the step, and which one it is, from 1."""

    messages: tuple[Message, ...]
    target: str
    number: int


def build_samples(
    episode: Episode, split: Callable[[str], list[str]], template: str, format_calls: Callable[[Turn], str]
) -> list[Sample]:
    """The N - 1 samples of an expert's N steps; the last step, which ends the solution, is no target.

    Of one answer (or of several that nobody replied to: a turn each step) the steps so far stand in the prompt; of a
    trajectory, whose steps are its turns, they are the conversation. A step is what was done: thinking up to `</think>`
    is left out, and of a turn that calls tools the calls alone count.

    Args:
        episode: one solution.
        split: splits the text of a single answer, for example `split_numbered`.
        template: a file of `feedback/prompts`, or a path, with {question} and {steps}.
        format_calls: the tool calls of a turn as text.

    Raises:
        ValueError: fewer than two steps, an empty one, or thinking that never ends.
    """
    answers = [list(part) for own, part in groupby(episode.turns, lambda turn: turn.role == "assistant") if own]
    if len(answers) > 1:
        return _build_from_turns(episode, format_calls)
    turns = answers[0] if answers else []
    steps = [_extract_step(episode, turn, format_calls) for turn in turns]
    if len(steps) == 1:
        steps = split(steps[0])
    return _build_from_answer(episode, _check_steps(episode, steps), load_template(template))


def _build_from_answer(episode: Episode, steps: list[str], template: str) -> list[Sample]:
    *before, asked = episode.task.messages
    made = []
    for place, step in enumerate(steps[:-1]):
        so_far = "\n".join(f"{n}. {done}" for n, done in enumerate(steps[:place], 1)) or NONE
        words = {"question": str(asked["content"]), "steps": so_far}
        text = _fill(template, words)
        made.append(Sample((*before, {**asked, "content": text}), step, place + 1))
    return made


def _fill(template: str, words: dict[str, str]) -> str:
    return PLACEHOLDER.sub(lambda name: words[name[1]], template)


def _build_from_turns(episode: Episode, format_calls: Callable[[Turn], str]) -> list[Sample]:
    messages = list(episode.task.messages)
    made: list[Sample] = []
    for own, part in groupby(episode.turns, lambda turn: turn.role == "assistant"):
        if not own:
            messages += [{"role": turn.role, "content": turn.text} for turn in part]
            continue
        step = "\n".join(_extract_step(episode, turn, format_calls) for turn in part)
        made.append(Sample(tuple(messages), step, len(made) + 1))
        messages.append({"role": "assistant", "content": step})
    _check_steps(episode, [sample.target for sample in made])
    return made[:-1]


def _extract_step(episode: Episode, turn: Turn, format_calls: Callable[[Turn], str]) -> str:
    step = format_calls(turn) or strip_thinking(turn.text)
    if step is None:
        raise ValueError(f"{episode.id}: got thinking that never ends, expected </think> before the step")
    return step


def _check_steps(episode: Episode, steps: list[str]) -> list[str]:
    if len(steps) < 2 or not all(steps):
        got = f"{len(steps)} steps" if all(steps) else f"an empty step {steps.index('') + 1}"
        raise ValueError(f"{episode.id}: got {got}, expected at least two, none of them empty")
    return steps
