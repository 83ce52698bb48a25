"""What all judges share: a gateway, votes of several samples, and an account of what stayed unscored."""

from __future__ import annotations

import math
import statistics
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from pydantic import BaseModel

from feedback.faults import DataError, format_value
from feedback.gateway import Failure, Gateway, Reply, Request, Sampling
from feedback.graders.base import Grader
from feedback.graders.judges.reply import UnreadableReply, build_schema, read_form
from feedback.types import Episode, Feedback, Message, hash_prompt

Vote = Callable[[Sequence[float]], float]
Form = TypeVar("Form", bound=BaseModel)


def mean(scores: Sequence[float]) -> float:
    """The mean: DeepSeek-GRM's vote, whose sum of scores differs by a factor (arXiv 2504.02495, section 4)."""
    return statistics.fmean(scores)


def median(scores: Sequence[float]) -> float:
    """The middle one: a few wild samples change nothing."""
    return statistics.median(scores)


def majority(scores: Sequence[float]) -> float:
    """The most frequent one; NaN, which is unscored, where two are equally frequent."""
    most = statistics.multimode(scores)
    return most[0] if len(most) == 1 else math.nan


def group_by_prompt(episodes: Sequence[Episode]) -> list[list[int]]:
    """The rows of each prompt, in order."""
    groups: dict[str, list[int]] = {}
    for row, episode in enumerate(episodes):
        groups.setdefault(hash_prompt(episode.task.messages), []).append(row)
    return list(groups.values())


@dataclass(frozen=True)
class Judge(Grader):
    """A grader that asks a model through the gateway. What it cannot read is unscored, with a reason, and never 0."""

    gateway: Gateway
    """The server, its model, and the cache of replies."""
    samples: int = 1
    """Replies asked for each question."""
    sampling: Sampling = Sampling()
    """How the judge generates; several samples need a temperature above 0."""
    quorum: float = 0.5
    """Share of the samples that must be readable; with fewer there is no score."""
    unscored: Counter[str] = field(default_factory=Counter, init=False, repr=False, compare=False)
    """How many judgements could not be read, by reason, since this object was made."""

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise self.build_error("samples", format_value(self.samples), "at least 1")
        if self.samples > 1 and self.sampling.temperature == 0:
            raise self.build_error(
                "samples", f"{self.samples} at temperature 0", "a temperature above 0", "Equal samples are one vote."
            )
        if not 0 < self.quorum <= 1:
            raise self.build_error("quorum", format_value(self.quorum), "a share above 0, up to 1")

    @abstractmethod
    def build_requests(self, episodes: Sequence[Episode]) -> list[Request]:
        """All that this judge asks about the episodes, in the order in which it reads the replies."""

    def make_request(
        self, messages: tuple[Message, ...], form: type[BaseModel] | None, sample: int, tag: str
    ) -> Request:
        """One question to the judge."""
        return Request(messages, self.sampling, build_schema(form) if form else None, sample, tag)

    def parse_reply(self, reply: Reply | Failure, form: type[Form], check: Callable[[Form], str | None]) -> Form | str:
        """The filled-in form, or why there is none; `check` names what is wrong with a form that fits its schema."""
        try:
            found = read_form(reply, form)
        except UnreadableReply as error:
            return str(error)
        return check(found) or found

    def has_quorum(self, readable: int) -> bool:
        """Whether so many readable samples make a score."""
        return readable >= self.quorum * self.samples

    def record_unscored(self, episode: Episode, reasons: Sequence[str]) -> Episode:
        """The episode unscored: the most frequent reason is counted and noted."""
        reason = Counter(reasons).most_common(1)[0][0] if reasons else "no vote"
        self.unscored[reason] += 1
        return replace(episode, unscored=reason)

    def build_error(self, name: str, got: str, expected: str, remedy: str = "") -> DataError:
        """A setting of this judge that makes no sense."""
        return DataError("config", None, f"{type(self).__name__}.{name}", got, expected, remedy)


@dataclass(frozen=True)
class ScaleJudge(Judge):
    """A judge that scores on a scale."""

    scale: tuple[float, float] = (1.0, 10.0)
    """Lowest and highest score; kept with the score, which is mapped to [0, 1]."""
    vote: Vote = mean
    """How the scores of several samples become one: mean, median or majority of `feedback.graders`, or a function of
    your own."""
    name: str = "score"
    """Name of the score."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (all(map(math.isfinite, self.scale)) and self.scale[0] < self.scale[1]):
            raise self.build_error("scale", str(self.scale), "lowest and highest score, lowest < highest")

    @property
    def scale_labels(self) -> dict[str, str]:
        """The scale as templates name it."""
        return {"low": f"{self.scale[0]:g}", "high": f"{self.scale[1]:g}"}

    def check_scores(self, scores: Sequence[float]) -> str | None:
        """A reason where a score lies outside the scale; it is not clipped, since nobody knows what was meant."""
        return None if all(self.scale[0] <= score <= self.scale[1] for score in scores) else "off the scale"

    def add_voted_score(self, episode: Episode, votes: Sequence[tuple[float, str]], reasons: Sequence[str]) -> Episode:
        """The episode with the vote of its (score, critique) samples, or unscored for the `reasons` of the others."""
        score = self.vote([value for value, _ in votes]) if votes and self.has_quorum(len(votes)) else math.nan
        if math.isnan(score):
            return self.record_unscored(episode, reasons)
        # The critique is that of the sample that the vote agrees with most.
        critique = min(votes, key=lambda vote: abs(vote[0] - score))[1].strip()
        low, high = self.scale
        share = (score - low) / (high - low)
        return episode.add_feedback(
            Feedback("llm", self.gateway.model, self.name, share, critique or None, scale=self.scale)
        )
