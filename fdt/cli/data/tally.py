"""What `fdt data stats` counts: one pass, a few numbers a record, no text kept."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fdt.cli.data.agreement import Agreement, compute_agreement
from fdt.cli.data.histogram import Histogram, Lengths
from feedback.types import Episode, Feedback

MOST = 500  # pairs of name and annotator that are kept apart; the rest is pooled
OTHERS = "(others)"
TEXTS = ("prompt", "response", "critique", "revision")
Judge = tuple[str, str | None, tuple[float, float] | None]


def _make_ids() -> array:
    return array("q")


@dataclass
class Ratings:
    """The scores of one name by who gave them, for agreement."""

    units: array = field(default_factory=_make_ids)
    annotators: array = field(default_factory=_make_ids)
    values: array = field(default_factory=lambda: array("d"))

    def compute_agreement(self) -> Agreement | None:
        """Agreement over the responses that several annotators scored, None where there is none."""
        columns = np.frombuffer(self.units, np.int64), np.frombuffer(self.annotators, np.int64)
        return compute_agreement(*columns, np.frombuffer(self.values, np.float64)) if len(self.units) else None


@dataclass
class Tally:
    """The counts of a file: some forty bytes a record in hashes, whatever its texts weigh."""

    scores: dict[Judge, Histogram] = field(default_factory=dict)
    ratings: dict[str, Ratings] = field(default_factory=dict)
    lengths: dict[str, Lengths] = field(default_factory=lambda: {name: Lengths() for name in TEXTS})
    sources: Counter[str] = field(default_factory=Counter)
    compared: Counter[str] = field(default_factory=Counter)
    """Comparisons of two responses, by how they went."""
    tasks: array = field(default_factory=_make_ids)
    task_scores: array = field(default_factory=lambda: array("d"))
    responses: array = field(default_factory=_make_ids)
    rows: array = field(default_factory=_make_ids)

    def add(self, episode: Episode) -> None:
        """Counts one record."""
        prompt = hash(tuple([(message["role"], str(message.get("content"))) for message in episode.task.messages]))
        response = hash((prompt, tuple([(turn.role, turn.text) for turn in episode.turns])))
        self.tasks.append(hash(episode.task.key))
        self.task_scores.append(episode.score)
        self.responses.append(response)
        self.rows.append(hash((response, tuple([_build_key(item) for item in episode.feedback]))))
        self.lengths["prompt"].add("".join(str(message.get("content")) for message in episode.task.messages))
        self.lengths["response"].add(episode.response)
        for comparison in episode.preferences:
            self.compared["comparisons"] += 1
            self.compared["ties" if comparison.strength == 0.5 else "with a chosen and a rejected response"] += 1
            self.compared["far better or worse (strength 0 or 1)"] += comparison.strength in (0, 1)
        nameless: Counter[tuple[str, int | None]] = Counter()
        several = len(episode.feedback) > 1
        for item in episode.feedback:
            self.sources[item.source] += 1
            self.lengths["critique"].add(item.text)
            self.lengths["revision"].add(item.revision)
            if not math.isnan(item.score):
                self._add_score(item, response, nameless, several)

    def _add_score(self, item: Feedback, response: int, nameless: Counter, several: bool) -> None:
        judge: Judge = (item.name, item.annotator, item.scale)
        if judge not in self.scores and len(self.scores) >= MOST:
            judge = (item.name if item.name in self.ratings else OTHERS, OTHERS, item.scale)
        low, high = item.scale or (0.0, 1.0)
        self.scores.setdefault(judge, Histogram()).add(low + item.score * (high - low))
        if item.annotator is None and not several:
            return  # nobody can say whether two nameless rows are two people's
        # Nameless scores side by side in one record are different people's; in two records they may be one's.
        place = nameless[item.name, item.turn]
        nameless[item.name, item.turn] += item.annotator is None
        ratings = self.ratings.setdefault(judge[0], Ratings())
        ratings.units.append(hash((response, item.turn)))
        ratings.annotators.append(hash(item.annotator if item.annotator is not None else place))
        ratings.values.append(item.score)

    def count_groups(self) -> dict[str, int]:
        """How many tasks there are, how many have one response, and how many have scores that differ."""
        if not self.tasks:
            return {"tasks": 0, "with one response": 0, "with scores that differ": 0}
        tasks = np.frombuffer(self.tasks, np.int64)
        scores = np.frombuffer(self.task_scores)
        _, place, counts = np.unique(tasks, return_inverse=True, return_counts=True)
        low = np.full(len(counts), np.inf)
        high = np.full(len(counts), -np.inf)
        given = ~np.isnan(scores)
        np.minimum.at(low, place[given], scores[given])
        np.maximum.at(high, place[given], scores[given])
        return {
            "tasks": len(counts),
            "with one response": int((counts == 1).sum()),
            "with scores that differ": int((high > low).sum()),
        }

    def count_repeated(self) -> dict[str, int]:
        """Records that repeat an earlier one word for word (id aside), and ones that judge its response anew."""
        whole = _count_repeats(self.rows)
        answers = _count_repeats(self.responses)
        return {"the same record again": whole, "the same response judged again": answers - whole}


def _count_repeats(hashes: array) -> int:
    values: NDArray[np.int64] = np.sort(np.frombuffer(hashes, np.int64)) if hashes else np.empty(0, np.int64)
    return int((values[1:] == values[:-1]).sum())


def _build_key(item: Feedback) -> tuple:
    score = None if math.isnan(item.score) else item.score  # NaN is unequal to itself
    return item.source, item.annotator, item.name, score, item.text, item.turn, item.revision
