"""Which of several hints the teacher reads. By text here; by what they do to its predictions in the objective."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from feedback.hints.base import Hint, HintedEpisode, Shorten, skip_truncation
from feedback.types import Episode

Order = Callable[[list[HintedEpisode]], list[HintedEpisode]]


def keep_order(whispers: list[HintedEpisode]) -> list[HintedEpisode]:
    """As they were named."""
    return whispers


def sort_longest_first(whispers: list[HintedEpisode]) -> list[HintedEpisode]:
    """The longest first, in characters (OpenClaw-RL, arXiv 2603.10165)."""
    return sorted(whispers, key=lambda whisper: -len(whisper.text))


def sort_shortest_first(whispers: list[HintedEpisode]) -> list[HintedEpisode]:
    """The shortest first, in characters (OpenClaw-RL's second version, before it chooses by overlap)."""
    return sorted(whispers, key=lambda whisper: len(whisper.text))


@dataclass(frozen=True)
class OneOf(Hint):
    """One of several hints for each row; or a few of them, if the objective is to choose.

    With `keep` above 1 the teacher scores a row once under each, as `teacher`, `hint_1`, `hint_2` …, which costs a
    forward each; `objectives.DistillBestHint` with `hints: [hint_1, hint_2]` then learns from the one whose likeliest
    tokens overlap most with the student's.
    """

    hints: list[Hint]
    """Whatever these whisper is a candidate; `CritiqueHint` with `apart` gives one for each critique."""
    order: Callable = keep_order
    """Which comes first: feedback.hints.keep_order, longest, shortest, or a function of your own."""
    keep: int = 1
    """How many the teacher reads, each by itself."""

    def __post_init__(self) -> None:
        if self.keep < 1 or not self.hints:
            raise ValueError(f"OneOf: got {len(self.hints)} hints, keep {self.keep}, expected at least one of each")

    def build_hints(self, episode: Episode, shorten: Shorten = skip_truncation) -> list[HintedEpisode]:
        """The first `keep` of the distinct candidates, in order."""
        found: dict[str, HintedEpisode] = {}
        for whisper in (whisper for hint in self.hints for whisper in hint.build_hints(episode, shorten)):
            found.setdefault(whisper.text, whisper)
        return self.order(list(found.values()))[: self.keep]

    def annotate_group(self, episodes: list[Episode]) -> list[Episode]:
        """What each of the hints notes."""
        for hint in self.hints:
            episodes = hint.annotate_group(episodes)
        return episodes
