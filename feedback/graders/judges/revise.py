"""A model that corrects what was criticised, for files that hold critiques and no corrections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from feedback.gateway import Failure, Reply, Request
from feedback.graders.judges.base import Judge
from feedback.graders.judges.prompt import build_judge_prompt, format_answer, format_question
from feedback.graders.judges.reply import RevisionReply
from feedback.types import Episode, Feedback


@dataclass(frozen=True)
class Reviser(Judge):
    """Writes a corrected answer for each episode that has a critique and no revision.

    Nobody checks it here: `feedback.rewriter` accepts a draft only where a grader prefers it.
    """

    template: str = "judge_revise.txt"
    """A file of `feedback/prompts`, or a path: {question}, {answer}, {critique}."""
    name: str = "revision"
    """Name of the feedback that holds it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.samples != 1:
            raise self.build_error("samples", str(self.samples), "1: a revision is no vote")

    def build_requests(self, episodes: Sequence[Episode]) -> list[Request]:
        """One question for each episode that lacks a revision and has a critique."""
        return [self._build_request(episode) for episode in episodes if needs_revision(episode)]

    def __call__(self, episodes: list[Episode]) -> list[Episode]:
        """Adds a `Feedback` with a revision; an episode without a readable one gets `Episode.unscored`."""
        replies = iter(self.gateway.ask(self.build_requests(episodes)))
        return [
            self._add_revision(episode, next(replies)) if needs_revision(episode) else episode for episode in episodes
        ]

    def _build_request(self, episode: Episode) -> Request:
        texts = {
            "question": format_question(episode),
            "answer": format_answer(episode.turns),
            "critique": episode.critique or "",
        }
        return self.make_request(build_judge_prompt(self.template, texts, {}), RevisionReply, 0, episode.id)

    def _add_revision(self, episode: Episode, reply: Reply | Failure) -> Episode:
        form = self.parse_reply(reply, RevisionReply, lambda form: _check_revision(form.revision.strip(), episode))
        if isinstance(form, str):
            return self.record_unscored(episode, [form])
        return episode.add_feedback(Feedback("llm", self.gateway.model, self.name, revision=form.revision.strip()))


def needs_revision(episode: Episode) -> bool:
    """Whether there is something to correct and no correction yet."""
    return episode.critique is not None and episode.revision is None


def _check_revision(revision: str, episode: Episode) -> str | None:
    if not revision:
        return "empty"
    return "no change" if revision == episode.response.strip() else None
