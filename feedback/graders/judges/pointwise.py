"""Judges that give marks: one answer by itself, or the answers to one prompt by principles made for it."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from feedback.gateway import Failure, Reply, Request
from feedback.graders.judges.base import Marker
from feedback.graders.judges.prompt import attempt, judge_prompt, question
from feedback.graders.judges.reply import Marked, Weighed
from feedback.types import Episode, Message, prompt_key

CORRECT = "Is it correct, does it answer what was asked, and is nothing in it made up?"


@dataclass(frozen=True)
class Pointwise(Marker):
    """Reads prompt and answer, thinks, writes a critique, and gives a mark last."""

    rubric: str = CORRECT
    """What makes an answer good, in words."""
    reference: bool = True
    """Whether the judge may read the task's reference, where there is one."""
    template: str = "judge_pointwise.txt"
    """A file of `feedback/prompts`, or a path: {question}, {answer}, {reference}, {rubric}, {low}, {high}."""

    def requests(self, episodes: Sequence[Episode]) -> list[Request]:
        """`samples` questions for each episode, one after the other."""
        prompts = [self._prompt(episode) for episode in episodes]
        return [
            self.request(prompt, Marked, sample, episode.id)
            for prompt, episode in zip(prompts, episodes, strict=True)
            for sample in range(self.samples)
        ]

    def __call__(self, episodes: list[Episode]) -> list[Episode]:
        """Adds one `Feedback` with score and critique to each episode; an unscored one gets `meta["unscored"]`."""
        replies = self.gateway.ask(self.requests(episodes))
        return [
            self._judged(episode, replies[row * self.samples : (row + 1) * self.samples])
            for row, episode in enumerate(episodes)
        ]

    def _prompt(self, episode: Episode) -> tuple[Message, ...]:
        texts = {
            "question": question(episode),
            "answer": attempt(episode.turns),
            "reference": (episode.task.reference or "") if self.reference else "",
        }
        return judge_prompt(self.template, texts, self.ends | {"rubric": self.rubric})

    def _judged(self, episode: Episode, replies: Sequence[Reply | Failure]) -> Episode:
        forms = [self.read(reply, Marked, lambda form: self.off_scale([form.score])) for reply in replies]
        return self.judged(
            episode,
            [(form.score, form.critique) for form in forms if isinstance(form, Marked)],
            [reason for reason in forms if isinstance(reason, str)],
        )


@dataclass(frozen=True)
class Principled(Marker):
    """Writes principles for the question, then criticises and marks the answers to it side by side, several times.

    The interface of DeepSeek-GRM (arXiv 2504.02495, sections 3 and 4): principles, critiques, marks; each sample meets
    the answers in another order; marks are voted on. Its second model, which filters the samples, is not here.
    """

    together: int = 4
    """Most answers to one prompt in one question."""
    template: str = "judge_principled.txt"
    """A file of `feedback/prompts`, or a path: {question}, {answers}, {count}, {low}, {high}."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.together < 1:
            raise self.fault("together", str(self.together), "at least 1")

    def requests(self, episodes: Sequence[Episode]) -> list[Request]:
        """`samples` questions for each handful of answers to one prompt."""
        return [self._request([episodes[row] for row in rows], sample) for rows, sample in self._questions(episodes)]

    def __call__(self, episodes: list[Episode]) -> list[Episode]:
        """Adds one `Feedback` with score and critique to each episode; an unscored one gets `meta["unscored"]`."""
        marks: list[list[tuple[float, str]]] = [[] for _ in episodes]
        reasons: list[list[str]] = [[] for _ in episodes]
        replies = self.gateway.ask(self.requests(episodes))
        for (rows, _), reply in zip(self._questions(episodes), replies, strict=True):
            form = self.read(reply, Weighed, lambda form, size=len(rows): self._wrong(form, size))
            for place, row in enumerate(rows):
                if isinstance(form, str):
                    reasons[row].append(form)
                else:
                    marks[row].append((form.scores[place], form.critiques[place]))
        return [self.judged(*row) for row in zip(episodes, marks, reasons, strict=True)]

    def _questions(self, episodes: Sequence[Episode]) -> Iterator[tuple[list[int], int]]:
        """The rows of each question, in the order in which they stand there, and the number of its sample."""
        groups: dict[str, list[int]] = {}
        for row, episode in enumerate(episodes):
            groups.setdefault(prompt_key(episode.task.messages), []).append(row)
        for group in groups.values():
            for start in range(0, len(group), self.together):
                rows = group[start : start + self.together]
                # Shuffled anew for every two samples, of which one is turned round; alike in each run.
                content = "\x00".join(attempt(episodes[row].turns) for row in rows)
                for sample in range(self.samples):
                    order = random.Random(f"{sample // 2}\x00{content}").sample(rows, len(rows))
                    yield order[:: -1 if sample % 2 else 1], sample

    def _request(self, episodes: Sequence[Episode], sample: int) -> Request:
        answers = {f"answer{place}": attempt(episode.turns) for place, episode in enumerate(episodes, 1)}
        messages = judge_prompt(
            self.template,
            {"question": question(episodes[0])} | answers,
            self.ends | {"count": str(len(episodes))},
            {"answers": answers},
        )
        return self.request(messages, Weighed, sample, episodes[0].id)

    def _wrong(self, form: Weighed, size: int) -> str | None:
        if len(form.scores) != size or len(form.critiques) != size:
            return "another number of marks than of answers"
        return self.off_scale(form.scores)
