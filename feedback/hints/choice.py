"""Which of several hints the teacher reads: by text here, by what they do to its predictions in the objective."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from feedback.hints.base import Hint, HintedEpisode, Truncate, annotate_group, run_hint, skip_truncation
from feedback.returns import check_list
from feedback.types import Episode

Order = Callable[[list[HintedEpisode]], list[HintedEpisode]]


def keep_order(hints: list[HintedEpisode]) -> list[HintedEpisode]:
    """As they were named."""
    return hints


def sort_longest_first(hints: list[HintedEpisode]) -> list[HintedEpisode]:
    """The longest first, in characters (OpenClaw-RL, arXiv 2603.10165)."""
    return sorted(hints, key=lambda hint: -len(hint.text))


def sort_shortest_first(hints: list[HintedEpisode]) -> list[HintedEpisode]:
    """The shortest first, in characters (OpenClaw-RL's second version, before it chooses by overlap)."""
    return sorted(hints, key=lambda hint: len(hint.text))


@dataclass(frozen=True)
class OneOf(Hint):
    """One of several hints for each row; or a few of them, if the objective is to choose.

    With `max_hints` above 1 the teacher reads a row once under each, as `teacher`, `hint_1`, `hint_2` …, which costs a
    forward each; `objectives.DistillBestHint` with `hints: [hint_1, hint_2]` then learns from the one whose likeliest
    tokens overlap most with the student's.
    """

    hints: list[Hint]
    """All that these give are candidates; `CritiqueHint` with `one_per_critique` gives one for each critique."""
    order: Order = keep_order
    """Which comes first: feedback.hints.keep_order, sort_longest_first, sort_shortest_first, or your own function."""
    max_hints: int = 1
    """How many the teacher reads, each by itself."""

    def __post_init__(self) -> None:
        if self.max_hints < 1 or not self.hints:
            got = f"{len(self.hints)} hints, max_hints {self.max_hints}"
            raise ValueError(f"OneOf: got {got}, expected at least one of each")

    def build_hints(self, episode: Episode, truncate: Truncate = skip_truncation) -> list[HintedEpisode]:
        """The first `max_hints` of the distinct candidates, in order."""
        found: dict[str, HintedEpisode] = {}
        for hint in self.hints:
            for hinted in run_hint(hint, episode, truncate):
                found.setdefault(hinted.text, hinted)
        ordered = check_list(self.order, self.order(list(found.values())), HintedEpisode, "hints")
        return ordered[: self.max_hints]

    @property
    def reads_skills(self) -> bool:
        """Whether any of the hints does."""
        return any(hint.reads_skills for hint in self.hints)

    @property
    def reads_group(self) -> bool:
        """Whether any of the hints does."""
        return any(hint.reads_group for hint in self.hints)

    def annotate_group(self, episodes: list[Episode]) -> list[Episode]:
        """What each of the hints notes."""
        for hint in self.hints:
            episodes = annotate_group(hint, episodes)
        return episodes
