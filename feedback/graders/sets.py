"""Sets of answers: one response offers several, each judged by several rewards (VPO, arXiv 2605.22817)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from feedback.graders.base import Grader, build_rule_feedback, run_grader
from feedback.graders.extract import extract_tag
from feedback.graders.function import FunctionGrader, as_grader
from feedback.types import Episode, Feedback, deduplicate


@dataclass(frozen=True)
class AnswerSet(Grader):
    """Reads up to `answers` answers from numbered tags, `<answer_1>`…`</answer_1>`, and has each reward judge each.

    The rewards go to `Episode.set_rewards` for `objectives.SetScore`: a row for each different answer, rows of zeros up
    to `answers`; answers that are equal but for blanks and case count once, and a response without any has zeros alone.
    The episode scores as `best` what its best single answer scores under equal weights. Where a reward cannot judge an
    answer, the whole set stays ungraded.
    """

    rewards: list[FunctionGrader | Grader]
    """The k rewards, graders or functions of an episode: each judges one answer as if it were the whole response, by
    the score that it adds."""
    answers: int = 3
    """The m answers that a response may offer."""
    tag: str = "answer"
    """Name of the tags, before the number."""

    def __post_init__(self) -> None:
        if self.answers < 1 or not self.rewards:
            raise ValueError(f"AnswerSet: got {self.answers} answers and {len(self.rewards)} rewards, expected some")

    def __call__(self, episodes: list[Episode]) -> list[Episode]:
        """The episodes with their sets; each reward judges all answers of all episodes in one call."""
        offered = [self.extract_answers(episode.response) for episode in episodes]
        single = [
            isolate_answer(episode, text)
            for episode, own in zip(episodes, offered, strict=True)
            for text in own.values()
        ]
        graded = [run_grader(as_grader(reward), single) if single else [] for reward in self.rewards]
        table = iter(zip(*graded, strict=True)) if single else iter(())
        return [
            self._combine_rewards(episode, own, [next(table) for _ in own])
            for episode, own in zip(episodes, offered, strict=True)
        ]

    def extract_answers(self, response: str) -> dict[int, str]:
        """The different answers of a response by their numbers."""
        found: dict[int, str] = {}
        known: set[str] = set()
        for n in range(1, self.answers + 1):
            text = extract_tag(response, f"{self.tag}_{n}") or ""
            plain = " ".join(text.lower().split())
            if plain and plain not in known:
                known.add(plain)
                found[n] = text
        return found

    def _combine_rewards(self, episode: Episode, own: dict[int, str], verdicts: list[tuple[Episode, ...]]) -> Episode:
        values = [[verdict.score for verdict in several] for several in verdicts]
        words = [
            f"Answer {n}: {text}"
            for n, several in zip(own, verdicts, strict=True)
            for text in deduplicate(verdict.critique for verdict in several)
        ]
        missing = self.answers - len(own)
        if missing:
            words.append(f"{missing} of {self.answers} answers are missing, or the same as another.")
        critique = "\n".join(words) or None
        if any(math.isnan(value) for row in values for value in row):
            return episode.add_feedback(Feedback("environment", None, "best", text=critique)) if critique else episode
        best = max((sum(row) / len(row) for row in values), default=0.0)
        rows = values + [[0.0] * len(self.rewards)] * missing
        return replace(
            episode.add_feedback(build_rule_feedback("best", best, critique)), set_rewards=tuple(map(tuple, rows))
        )


def isolate_answer(episode: Episode, text: str) -> Episode:
    """The episode as if this answer were its last turn, without feedback."""
    last = episode.policy_places[-1]
    turn = replace(episode.turns[last], text=text.strip(), ids=None, log_probs=None)
    return replace(episode, turns=(*episode.turns[:last], turn), feedback=())
