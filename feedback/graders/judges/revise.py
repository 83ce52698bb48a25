"""A model that corrects what was criticised, for files that hold critiques and no corrections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from feedback.gateway import Failure, Reply, Request
from feedback.graders.judges.base import Judge
from feedback.graders.judges.prompt import attempt, judge_prompt, question
from feedback.graders.judges.reply import Revised
from feedback.types import Episode, Feedback


@dataclass(frozen=True)
class Reviser(Judge):
    """Writes a corrected answer for each episode that has a critique and no revision.

    Nobody checks it here: `feedback.rewriter` has the gate that accepts a draft only where a critic prefers it.
    """

    template: str = "judge_revise.txt"
    """A file of `feedback/prompts`, or a path: {question}, {answer}, {critique}."""
    name: str = "revision"
    """Name of the feedback that holds it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.samples != 1:
            raise self.fault("samples", str(self.samples), "1: a revision is no vote")

    def requests(self, episodes: Sequence[Episode]) -> list[Request]:
        """One question for each episode that lacks a revision and has a critique."""
        return [self._request(episode) for episode in episodes if wanting(episode)]

    def __call__(self, episodes: list[Episode]) -> list[Episode]:
        """Adds a `Feedback` with a revision; an episode without a readable one gets `meta["unscored"]`."""
        replies = iter(self.gateway.ask(self.requests(episodes)))
        return [self._revised(episode, next(replies)) if wanting(episode) else episode for episode in episodes]

    def _request(self, episode: Episode) -> Request:
        texts = {"question": question(episode), "answer": attempt(episode.turns), "critique": episode.critique or ""}
        return self.request(judge_prompt(self.template, texts, {}), Revised, 0, episode.id)

    def _revised(self, episode: Episode, reply: Reply | Failure) -> Episode:
        form = self.read(reply, Revised, lambda form: _fault(form.revision.strip(), episode))
        if isinstance(form, str):
            return self.without(episode, [form])
        return episode.with_feedback(Feedback("llm", self.gateway.model, self.name, revision=form.revision.strip()))


def wanting(episode: Episode) -> bool:
    """Whether there is something to correct and no correction yet."""
    return episode.critique is not None and episode.revision is None


def _fault(revision: str, episode: Episode) -> str | None:
    if not revision:
        return "empty"
    return "no change" if revision == episode.response.strip() else None
