"""A judge that compares answers two by two, each pair both ways round, and how its verdict is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean
from typing import Literal

from feedback.gateway import Failure, Reply, Request
from feedback.graders.judges.base import Judge, group_by_prompt
from feedback.graders.judges.prompt import build_judge_prompt, format_answer, format_question
from feedback.graders.judges.reply import Form, UnreadableReply, name_reason, read_form, strip_reasoning
from feedback.types import Episode, Feedback

UNDECIDED = "the order of the answers decided"


class ComparisonReply(Form):
    """Two answers compared: thoughts first, the verdict last."""

    analysis: str = ""
    winner: Literal["A", "B", "tie"]


Verdict = Callable[[Reply | Failure], float]
"""How a judge's reply says which of two answers is better: 1 where the first is, 0 where the second is, 0.5 for a tie.
Raises `UnreadableReply`."""


def read_json_verdict(reply: Reply | Failure) -> float:
    """A JSON object with `analysis` and `winner`: A, B or tie; a server that can is asked to keep to this form."""
    return {"A": 1.0, "B": 0.0, "tie": 0.5}[read_form(reply, ComparisonReply).winner]


@dataclass(frozen=True)
class SuffixVerdict:
    r"""A text at the very end, after free reasoning, as judges write that were trained to reason first.

    RRM ends with `\boxed{Assistant 1}` (arXiv 2505.14674), RM-R1 with `<answer>[[A]]</answer>` (arXiv 2505.02387). The
    same in the middle of the text is somebody's quote and counts for nothing. Such judges expect the prompt they were
    trained on: name it as the template.
    """

    first: str = r"\boxed{Assistant 1}"
    """What the reply ends with where the first answer is better."""
    second: str = r"\boxed{Assistant 2}"
    """What it ends with where the second is."""

    def __call__(self, reply: Reply | Failure) -> float:
        """1 or 0; there are no ties. Raises `UnreadableReply`."""
        text = strip_reasoning(reply).rstrip(" .$*\n")
        for suffix, value in ((self.first, 1.0), (self.second, 0.0)):
            if text.endswith(suffix):
                return value
        raise UnreadableReply(name_reason(reply, "no verdict at the end"))


@dataclass(frozen=True)
class PairwiseJudge(Judge):
    """Compares the answers to one prompt; a score is the share of comparisons won.

    Each pair is asked both ways round. Where both orders agree, that is the verdict (a tie counts a half). Where they
    do not, the order decided and not the answers: the comparison counts for nobody. An answer without a comparison that
    counts is unscored. Equal answers are a tie that nobody is asked about. Needs several answers to a prompt.
    """

    neighbours: int | None = None
    """Compare each answer only with so many that follow it in a ring; null compares all, which grows as the square."""
    verdict: Verdict = read_json_verdict
    """How the reply is read: feedback.graders.read_json_verdict, SuffixVerdict, or a function of your own."""
    template: str = "judge_pairwise.txt"
    """A file of `feedback/prompts`, or a path: {question}, {reference}, {first}, {second}."""
    reference: bool = True
    """Whether the judge may read the task's reference, where there is one."""
    name: str = "pairwise"
    """Name of the score."""

    def build_requests(self, episodes: Sequence[Episode]) -> list[Request]:
        """`samples` times each pair, the one way round and then the other."""
        return [
            self._build_request(episodes[one], episodes[two], sample)
            for pair in self._select_pairs(episodes)
            for sample in range(self.samples)
            for one, two in (pair, pair[::-1])
        ]

    def __call__(self, episodes: list[Episode]) -> list[Episode]:
        """Adds one `Feedback` with a score to each episode; an unscored one gets `Episode.unscored`."""
        replies = iter(self.gateway.ask(self.build_requests(episodes)))
        won: list[list[float]] = [[] for _ in episodes]
        reasons: list[list[str]] = [[] for _ in episodes]
        asked = set(self._select_pairs(episodes))
        for one, two in self._build_pairs(episodes):
            strength, why = self._settle_pair(replies) if (one, two) in asked else (0.5, [])
            for row, share in ((one, strength), (two, None if strength is None else 1.0 - strength)):
                reasons[row] += why
                won[row] += [] if share is None else [share]
        return [self._add_score(*row) for row in zip(episodes, won, reasons, strict=True)]

    def _build_pairs(self, episodes: Sequence[Episode]) -> list[tuple[int, int]]:
        pairs: list[tuple[int, int]] = []
        for rows in group_by_prompt(episodes):
            size = len(rows)
            reach = size if self.neighbours is None else self.neighbours
            pairs += [
                (rows[one], rows[two])
                for one, two in combinations(range(size), 2)
                if min(two - one, size - two + one) <= reach
            ]
        return pairs

    def _select_pairs(self, episodes: Sequence[Episode]) -> list[tuple[int, int]]:
        return [
            (one, two)
            for one, two in self._build_pairs(episodes)
            if format_answer(episodes[one].turns) != format_answer(episodes[two].turns)
        ]

    def _build_request(self, one: Episode, two: Episode, sample: int) -> Request:
        texts = {
            "question": format_question(one),
            "first": format_answer(one.turns),
            "second": format_answer(two.turns),
            "reference": (one.task.reference or "") if self.reference else "",
        }
        form = ComparisonReply if self.verdict is read_json_verdict else None
        return self.make_request(build_judge_prompt(self.template, texts, {}), form, sample, f"{one.id} {two.id}")

    def _settle_pair(self, replies: Iterator[Reply | Failure]) -> tuple[float | None, list[str]]:
        """The share of a pair's win that falls to its first, None where there is no verdict; and why not."""
        decided = []
        reasons = []
        for _ in range(self.samples):
            there = next(replies)
            back = next(replies)
            try:
                first = self.verdict(there)
                second = 1.0 - self.verdict(back)
            except UnreadableReply as error:
                reasons.append(str(error))
                continue
            if first == second:
                decided.append(first)
            else:
                reasons.append(UNDECIDED)
        return (fmean(decided) if self.has_quorum(len(decided)) else None), reasons

    def _add_score(self, episode: Episode, won: list[float], reasons: list[str]) -> Episode:
        if not won:
            return self.record_unscored(episode, reasons or ["no other answer to compare with"])
        return episode.add_feedback(Feedback("llm", self.gateway.model, self.name, fmean(won)))
