"""Questions about an invented world, answered by searching its articles: several hops, one search a turn."""

from __future__ import annotations

import random
import re
import string
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from fdt.environments.base import Environment, Reply, Session, import_required, select_split
from fdt.environments.corpus import build_world
from feedback.types import Feedback, Task, Turn

RULES = "Find the answer in a library. Each time, write one line: search: WORDS, or answer: THE ANSWER."
LINE = re.compile(r"^[^\w\n]*+(search|answer)\s*+:\s*+(.+)", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True)
class Search(Environment):
    """Multi-hop questions over a generated corpus, found by BM25 (extra `gym`).

    A search is scored as `found`: the share of the articles on the way to the answer that it brought up for the first
    time. The episode is scored as `correct`: whether the answer is the right one, up to case, articles and punctuation.
    """

    size: int = 60
    """Companies in the world; articles are about 2.25 times as many."""
    hops: tuple[int, int] = (2, 3)
    """Fewest and most articles that lead to an answer."""
    results: int = 2
    """Articles that a search brings back."""
    seed: int = 0
    """Of the world, the same for training and measuring."""
    rules: str = RULES
    """Text before the question."""

    def __post_init__(self) -> None:
        if not 8 <= self.size <= 1000:
            raise ValueError(f"size: got {self.size}, expected 8 to 1000")

    def sample_tasks(self, split: str, count: int, seed: int) -> list[Task]:
        return select_split(self._generate_tasks(random.Random(seed)), split, count)

    def _generate_tasks(self, rng: random.Random) -> Iterator[Task]:
        fewest, most = self.hops
        questions = [q for q in build_world(self.size, self.seed).questions if fewest <= len(q.path) <= most]
        for question in rng.sample(questions, len(questions)):
            text = f"{self.rules}\n\n{question.text}".strip()
            yield Task(
                question.text, ({"role": "user", "content": text},), question.answer, meta={"path": list(question.path)}
            )

    def start(self, task: Task, seed: int) -> Session:
        return _SearchSession(self, task)

    def find(self, query: str) -> list[int]:
        """Numbers of the articles that fit a query best; those that share no word with it are left out."""
        library = build_index(self.size, self.seed)
        bm25s = import_required("bm25s", "bm25s")
        words = bm25s.tokenize([query], stopwords="en", show_progress=False, return_ids=False)
        if not words[0]:
            return []
        scores = library.get_scores(words[0])
        best = sorted(range(len(scores)), key=lambda n: (-scores[n], n))[: self.results]
        return [n for n in best if scores[n] > 0]


@lru_cache(maxsize=4)
def build_index(size: int, seed: int) -> Any:
    """The BM25 index of a world's articles, their titles included."""
    bm25s = import_required("bm25s", "bm25s")
    made = build_world(size, seed)
    library = bm25s.BM25()
    texts = [f"{title} {text}" for title, text in zip(made.titles, made.texts, strict=True)]
    library.index(bm25s.tokenize(texts, stopwords="en", show_progress=False), show_progress=False)
    return library


class _SearchSession(Session):
    def __init__(self, library: Search, task: Task) -> None:
        self.library = library
        self.task = task
        self.messages = task.messages
        self.turn_index = 0
        self.seen: set[str] = set()

    def reply(self, turn: Turn) -> Reply:
        found = LINE.findall(turn.text)
        kind, words = found[-1] if found else ("", "")
        words = words.strip()
        index = self.turn_index
        self.turn_index += 1
        if kind.lower() == "answer":
            # It brings nothing up and scores 0, so that every episode has a score `found`.
            return Reply((), (Feedback("environment", None, "found", 0.0, None, index), self._grade_answer(words)))
        if not kind:
            fault = "It has neither a line search: WORDS nor a line answer: THE ANSWER."
            return self._build_reply(fault, Feedback("environment", None, "found", 0.0, fault, index))
        made = build_world(self.library.size, self.library.seed)
        places = self.library.find(words)
        new = {made.titles[n] for n in places} - self.seen
        self.seen |= new
        path = self.task.meta["path"]
        share = len(new & set(path)) / len(path)
        critique = None if places else "This search finds nothing: use names that you have read."
        text = "\n".join(f"{made.titles[n]}: {made.texts[n]}" for n in places) or "Nothing found."
        return self._build_reply(text, Feedback("environment", None, "found", share, critique, index))

    def truncate(self) -> tuple[Feedback, ...]:
        return (Feedback("environment", None, "correct", 0.0, "No answer was given."),)

    def _build_reply(self, text: str, item: Feedback) -> Reply:
        return Reply(({"role": "user", "content": text},), (item,), done=False)

    def _grade_answer(self, answer: str) -> Feedback:
        right = normalise_answer(answer) == normalise_answer(self.task.reference or "")
        critique = None if right else f"{answer.strip()[:80]!r} is not the answer."
        return Feedback("environment", None, "correct", float(right), critique)


def normalise_answer(text: str) -> str:
    """An answer without case, punctuation, articles and extra blanks."""
    bare = text.lower().translate(str.maketrans("", "", string.punctuation))
    return " ".join(word for word in bare.split() if word not in ("a", "an", "the"))
