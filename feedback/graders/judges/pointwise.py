"""Judges that score: one answer by itself, or the answers to one prompt by principles made for it."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from feedback.gateway import Failure, Reply, Request
from feedback.graders.judges.base import ScaleJudge, group_by_prompt
from feedback.graders.judges.prompt import build_judge_prompt, format_answer, format_question
from feedback.graders.judges.reply import PointwiseReply, PrincipleReply
from feedback.types import Episode, Message

CORRECT = "Is it correct, does it answer what was asked, and is nothing in it made up?"


@dataclass(frozen=True)
class PointwiseJudge(ScaleJudge):
    """Reads prompt and answer, thinks, writes a critique, and gives a score last."""

    rubric: str = CORRECT
    """What makes an answer good, in words."""
    reference: bool = True
    """Whether the judge may read the task's reference, where there is one."""
    template: str = "judge_pointwise.txt"
    """A file of `feedback/prompts`, or a path: {question}, {answer}, {reference}, {rubric}, {low}, {high}."""

    def build_requests(self, episodes: Sequence[Episode]) -> list[Request]:
        """`samples` questions for each episode, one after the other."""
        prompts = [self._build_prompt(episode) for episode in episodes]
        return [
            self.make_request(prompt, PointwiseReply, sample, episode.id)
            for prompt, episode in zip(prompts, episodes, strict=True)
            for sample in range(self.samples)
        ]

    def __call__(self, episodes: list[Episode]) -> list[Episode]:
        """Adds one `Feedback` with score and critique to each episode; an unscored one gets `Episode.unscored`."""
        replies = self.gateway.ask(self.build_requests(episodes))
        return [
            self._grade_episode(episode, replies[row * self.samples : (row + 1) * self.samples])
            for row, episode in enumerate(episodes)
        ]

    def _build_prompt(self, episode: Episode) -> tuple[Message, ...]:
        texts = {
            "question": format_question(episode),
            "answer": format_answer(episode.turns),
            "reference": (episode.task.reference or "") if self.reference else "",
        }
        return build_judge_prompt(self.template, texts, self.scale_labels | {"rubric": self.rubric})

    def _grade_episode(self, episode: Episode, replies: Sequence[Reply | Failure]) -> Episode:
        forms = [
            self.parse_reply(reply, PointwiseReply, lambda form: self.check_scores([form.score])) for reply in replies
        ]
        return self.add_voted_score(
            episode,
            [(form.score, form.critique) for form in forms if isinstance(form, PointwiseReply)],
            [reason for reason in forms if isinstance(reason, str)],
        )


@dataclass(frozen=True)
class PrincipleJudge(ScaleJudge):
    """Writes principles for the question, then criticises and scores the answers to it side by side, several times.

    The interface of DeepSeek-GRM (arXiv 2504.02495, sections 3 and 4): principles, critiques, scores; each sample meets
    the answers in another order; scores are voted on. Its second model, which filters the samples, is not here.
    """

    answers_per_prompt: int = 4
    """Most answers to one prompt in one question."""
    template: str = "judge_principled.txt"
    """A file of `feedback/prompts`, or a path: {question}, {answers}, {count}, {low}, {high}."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.answers_per_prompt < 1:
            raise self.build_error("answers_per_prompt", str(self.answers_per_prompt), "at least 1")

    def build_requests(self, episodes: Sequence[Episode]) -> list[Request]:
        """`samples` questions for each handful of answers to one prompt."""
        return [
            self._build_request([episodes[row] for row in rows], sample) for rows, sample in self._group_rows(episodes)
        ]

    def __call__(self, episodes: list[Episode]) -> list[Episode]:
        """Adds one `Feedback` with score and critique to each episode; an unscored one gets `Episode.unscored`."""
        votes: list[list[tuple[float, str]]] = [[] for _ in episodes]
        reasons: list[list[str]] = [[] for _ in episodes]
        replies = self.gateway.ask(self.build_requests(episodes))
        for (rows, _), reply in zip(self._group_rows(episodes), replies, strict=True):
            form = self.parse_reply(reply, PrincipleReply, partial(self._check_form, size=len(rows)))
            for place, row in enumerate(rows):
                if isinstance(form, str):
                    reasons[row].append(form)
                else:
                    votes[row].append((form.scores[place], form.critiques[place]))
        return [self.add_voted_score(*row) for row in zip(episodes, votes, reasons, strict=True)]

    def _group_rows(self, episodes: Sequence[Episode]) -> Iterator[tuple[list[int], int]]:
        """The rows of each question, in the order in which they stand there, and the number of its sample."""
        for group in group_by_prompt(episodes):
            for start in range(0, len(group), self.answers_per_prompt):
                rows = group[start : start + self.answers_per_prompt]
                # Shuffled anew for every two samples, of which one is turned round; alike in each run.
                content = "\x00".join(format_answer(episodes[row].turns) for row in rows)
                for sample in range(self.samples):
                    order = random.Random(f"{sample // 2}\x00{content}").sample(rows, len(rows))
                    yield order[:: -1 if sample % 2 else 1], sample

    def _build_request(self, episodes: Sequence[Episode], sample: int) -> Request:
        answers = {f"answer{place}": format_answer(episode.turns) for place, episode in enumerate(episodes, 1)}
        messages = build_judge_prompt(
            self.template,
            {"question": format_question(episodes[0])} | answers,
            self.scale_labels | {"count": str(len(episodes))},
            {"answers": answers},
        )
        return self.make_request(messages, PrincipleReply, sample, episodes[0].id)

    def _check_form(self, form: PrincipleReply, size: int) -> str | None:
        if len(form.scores) != size or len(form.critiques) != size:
            return "another number of scores than of answers"
        return self.check_scores(form.scores)
