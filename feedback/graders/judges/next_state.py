"""A judge of turns by what came next: the user's or the tool's reply says how it went, and what would have helped."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from feedback.gateway import Failure, Reply, Request, Sampling
from feedback.graders.judges.base import Judge, majority
from feedback.graders.judges.prompt import build_judge_prompt, format_answer, format_question
from feedback.graders.judges.reply import NextStateReply
from feedback.types import Episode, Feedback


@dataclass(frozen=True)
class NextStateJudge(Judge):
    """Votes on each of the policy's turns that something follows (OpenClaw-RL, arXiv 2603.10165).

    *Score*: each vote says progress (1), failure (-1) or unclear (0). A strict plurality of 1 scores 1, of -1 scores 0;
    unclear, a tie or no readable vote leaves the turn unscored. *Hint*: of the votes that call their hint useful, the
    longest hint of more than `min_hint_chars` characters; none, and the turn gets no hint.
    """

    samples: int = 3
    """Votes on each turn."""
    sampling: Sampling = Sampling(temperature=0.6)
    """How the judge generates; several votes need a temperature above 0."""
    quorum: float = 1 / 3
    """Share of the votes that must be readable."""
    min_hint_chars: int = 10
    """A hint has more characters than this."""
    template: str = "judge_next.txt"
    """A file of `feedback/prompts`, or a path: {question}, {before}, {turn}, {role}, {next}."""
    name: str = "next_state"
    """Name of the score and the hint."""

    def build_requests(self, episodes: Sequence[Episode]) -> list[Request]:
        """`samples` questions for each of the policy's turns that a user's or a tool's turn follows."""
        return [
            self._build_request(episode, place, sample)
            for episode in episodes
            for _, place in find_answered_turns(episode)
            for sample in range(self.samples)
        ]

    def __call__(self, episodes: list[Episode]) -> list[Episode]:
        """Adds a `Feedback` with `turn`, score and hint for each turn that gets either."""
        replies = iter(self.gateway.ask(self.build_requests(episodes)))
        judged = []
        for episode in episodes:
            for turn, _ in find_answered_turns(episode):
                episode = self._grade_turn(episode, turn, [next(replies) for _ in range(self.samples)])
            judged.append(episode)
        return judged

    def _build_request(self, episode: Episode, place: int, sample: int) -> Request:
        after = episode.turns[place + 1]
        before = format_answer(episode.turns[:place]) if place else ""
        texts = {
            "question": format_question(episode),
            "before": before,
            "turn": format_answer(episode.turns[place : place + 1]),
            "next": format_answer([after]),
        }
        return self.make_request(
            build_judge_prompt(self.template, texts, {"role": after.role}), NextStateReply, sample, episode.id
        )

    def _grade_turn(self, episode: Episode, turn: int, replies: Sequence[Reply | Failure]) -> Episode:
        forms = [self.parse_reply(reply, NextStateReply, lambda form: None) for reply in replies]
        votes = [form for form in forms if isinstance(form, NextStateReply)]
        if not self.has_quorum(len(votes)):
            return self.record_unscored(episode, [reason for reason in forms if isinstance(reason, str)])
        progress = majority([form.progress for form in votes])
        hints = [form.hint.strip() for form in votes if form.useful and len(form.hint.strip()) > self.min_hint_chars]
        score = {1.0: 1.0, -1.0: 0.0}.get(progress, math.nan)
        if math.isnan(score):
            episode = self.record_unscored(episode, ["unclear"])
            if not hints:
                return episode
        hint = max(hints, key=len, default=None)
        return episode.add_feedback(Feedback("llm", self.gateway.model, self.name, score, hint, turn))


def find_answered_turns(episode: Episode) -> Iterator[tuple[int, int]]:
    """The policy's turns that another's turn follows: which of its turns, counted from 0, and its place in `turns`."""
    for turn, place in enumerate(episode.policy_places):
        if place + 1 < len(episode.turns) and episode.turns[place + 1].role != "assistant":
            yield turn, place
