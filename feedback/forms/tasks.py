"""What a person sees of an episode in an annotation tool, and which questions are asked about it.

A task carries the episode's canonical record along (`RECORD`), so that what comes back is the same episode with the
tool's judgements added, whatever the tool does with the texts that it shows. The questions are `score`, `critique` and
`revision` about the whole, and of an episode of several turns also `score_turn_1` and so on, turns counted from 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

RECORD = "fdt"
"""Where a task holds the canonical record."""
POINTS = "fdt_points"
"""Where a task holds the scale of its scores: lowest and highest."""
PARTS = ("score", "critique", "revision")
QUESTION = re.compile(r"(score|critique|revision)(?:_turn_([1-9]\d{0,3}))?")
TITLES = {"score": "How good is it?", "critique": "What is wrong?", "revision": "A better answer"}


def list_questions(num_turns: int) -> list[tuple[str, str, str]]:
    """Name, part and title of each question about episodes of up to so many turns."""
    turns = range(1, num_turns + 1) if num_turns > 1 else ()
    whole = [(part, part, TITLES[part]) for part in PARTS]
    return whole + [(f"{part}_turn_{n}", part, f"Turn {n}: {TITLES[part]}") for n in turns for part in PARTS]


def parse_question(name: str) -> tuple[str, int | None] | None:
    """The part and the turn, from 0, that a question is about; None for another tool's question."""
    found = QUESTION.fullmatch(name)
    return (found[1], int(found[2]) - 1 if found[2] else None) if found else None


def build_items(answers: Iterable[tuple[str, Any]], record: dict[str, Any], points: Any, annotator: str | None) -> list:
    """Items of feedback, as in a canonical episode, of one person's answers to our questions, one item a turn.

    Args:
        answers: name of a question and what was answered.
        record: the canonical record that the task carries.
        points: lowest and highest score.
        annotator: who answered.

    Raises:
        ValueError: a turn that the episode has not.
    """
    start = record.get("start", 0)
    places = [n for n, m in enumerate(record["messages"]) if m["role"] == "assistant" and n >= start]
    items: dict[int | None, dict[str, Any]] = {}
    for name, value in answers:
        question = parse_question(name)
        if question is None or value in (None, ""):
            continue
        part, turn = question
        if turn is not None and turn >= len(places):
            raise ValueError(f"turn {turn + 1} of {len(places)}")
        item = items.setdefault(turn, {} if turn is None else {"turn": places[turn]})
        item[part] = value
        if part == "score":
            item |= {"min": points[0], "max": points[1]}
    return [item | {"source": "human"} | ({"annotator": annotator} if annotator else {}) for item in items.values()]


def check_points(points: tuple[int, int]) -> None:
    """Raises ValueError unless the scale is two whole numbers from 0 to 10, the lower first."""
    if not 0 <= points[0] < points[1] <= 10:
        raise ValueError(f"got points {points}, expected two of 0 to 10, the lower first")
