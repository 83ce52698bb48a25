"""`Hint`: what only the teacher reads. It gives the episode as the teacher reads it, the policy's turns unchanged."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

from feedback.hints.places import append_to_prompt
from feedback.hints.templates import fill_template, load_template
from feedback.returns import check_list, check_same_episodes, refuse
from feedback.types import Episode, Message

Truncate = Callable[[str, int], str]
"""Truncates a text to a number of tokens; whoever owns a tokenizer gives one."""


def skip_truncation(text: str, limit: int) -> str:
    """The whole text, where nobody counts tokens."""
    return text


@dataclass(frozen=True)
class HintedEpisode:
    """One hint for one episode."""

    text: str
    """The words that are added."""
    episode: Episode
    """The episode as the teacher reads it under them."""


class Hint(ABC):
    """Adds a text that the teacher reads and the student does not."""

    @abstractmethod
    def build_hints(self, episode: Episode, truncate: Truncate = skip_truncation) -> list[HintedEpisode]:
        """The hints for this episode, the best first; empty where there is nothing to add."""

    def annotate_group(self, episodes: list[Episode]) -> list[Episode]:
        """Notes on each episode what only the others of its group know; called with whole groups."""
        return episodes

    @property
    def reads_group(self) -> bool:
        """Whether `annotate_group` notes anything; where it does not, it is not called."""
        return type(self).annotate_group is not Hint.annotate_group

    @property
    def reads_skills(self) -> bool:
        """Whether a hint may hold the skills that were retrieved for an episode."""
        return False

    def __call__(self, episode: Episode, truncate: Truncate = skip_truncation) -> list[Message] | None:
        """The messages that the teacher reads before the last turn, under the best hint; None for no hint."""
        found = run_hint(self, episode, truncate)
        if not found:
            return None
        hinted = found[0].episode
        return [*hinted.task.messages, *({"role": turn.role, "content": turn.text} for turn in hinted.turns[:-1])]


def run_hint(hint: Hint, episode: Episode, truncate: Truncate = skip_truncation) -> list[HintedEpisode]:
    """The hints that a plug builds for an episode.

    Raises:
        DataError: where it returns no list of hints, or one without words, or one that changes a turn of the policy:
            then the teacher would score an answer that nobody gave.
    """
    found = check_list(hint, hint.build_hints(episode, truncate), HintedEpisode, "hints")
    for each in found:
        if not isinstance(each.text, str) or not isinstance(each.episode, Episode):
            raise refuse(
                hint, f"a hint for {episode.id} of {type(each.text).__name__}", "a text and the hinted episode"
            )
        if each.episode.policy_turns != episode.policy_turns:
            got = f"a hint for {episode.id} that changes a turn of the policy"
            raise refuse(hint, got, "one that changes another message")
    return found


def annotate_group(hint: Hint, episodes: list[Episode]) -> list[Episode]:
    """`Hint.annotate_group`, checked; the same list where the hint notes nothing.

    Raises:
        DataError: where it does not return the same episodes in the same order.
    """
    if not hint.reads_group:
        return episodes
    return check_same_episodes(hint, episodes, hint.annotate_group(episodes))


@dataclass(frozen=True)
class TemplateHint(Hint):
    """Fills a template with what is known about the episode; there is no hint where a value it names is absent."""

    own_template: ClassVar[str | None] = None
    """What a kind of hint states where a config names no file."""
    template: str | None = None
    """Null: that of the kind of hint. Else a file of `feedback/prompts`, or a path, with {critique}, {sibling} (a
    better answer of the group), {revision}, {demonstration}, {reference}, {response} and {skills} (those of a bank,
    where `data.skills` whispers them). It is text with places for values; nothing in it is evaluated."""
    place: Callable[[Episode, str], Episode] = append_to_prompt
    """Where the hint stands: feedback.hints.append_to_prompt, append_to_system, insert_before_turn, or your own
    function."""
    max_tokens: int | None = None
    """Most tokens of each value in the hint (a critique, an answer …); a longer one is cut at its end, and counted.
    Null: never cut; a row that becomes too long then goes without hint."""
    min_sibling_score: float = 0.5
    """Least score of a {sibling}."""
    column: str = "demonstration"
    """Where {demonstration} comes from: a further column of the task's record."""

    def build_hints(self, episode: Episode, truncate: Truncate = skip_truncation) -> list[HintedEpisode]:
        """At most one, unless a kind of hint has several values.

        Raises:
            DataError: where `place` changed a turn of the policy.
        """
        found = [HintedEpisode(text, self.place(episode, text)) for text in self.render_texts(episode, truncate)]
        if any(hint.episode.policy_turns != episode.policy_turns for hint in found):
            got = f"a place that changes a turn of the policy in {episode.id}"
            raise refuse(self.place, got, "one that changes another message")
        return found

    def load_template(self) -> str:
        """The text with the names.

        Raises:
            DataError: where no file is named and the kind of hint has none of its own, or there is no such file.
        """
        name = self.template or self.own_template
        if name is None:
            raise refuse(self, "no template", "a file of feedback/prompts, or a path")
        return load_template(name)

    def render_texts(self, episode: Episode, truncate: Truncate) -> list[str]:
        """The filled templates."""
        values = self.collect_values(episode)
        limit = self.max_tokens
        if limit is not None:
            values = {name: value and truncate(value, limit) for name, value in values.items()}
        text = self.fill(self.load_template(), values)
        return [] if text is None else [text]

    def collect_values(self, episode: Episode) -> dict[str, str | None]:
        """What the names of a template stand for in this episode."""
        demonstration = episode.task.meta.get(self.column)
        return {
            "critique": episode.critique,
            "sibling": episode.sibling,
            "revision": episode.revision,
            "demonstration": demonstration if isinstance(demonstration, str) and demonstration.strip() else None,
            "reference": episode.task.reference,
            "response": episode.response or None,
            "skills": "\n".join(skill.text for skill in episode.skills if not skill.shown) or None,
        }

    def fill(self, template: str, values: dict[str, str | None]) -> str | None:
        """The template with values; None where there is nothing to add."""
        return fill_template(template, values)

    @property
    def reads_skills(self) -> bool:
        """Whether the template names {skills}."""
        return "{skills}" in self.load_template()

    @property
    def reads_group(self) -> bool:
        """Whether the template names {sibling}, or a kind of hint notes something of its own."""
        own = type(self).annotate_group is not TemplateHint.annotate_group
        return own or "{sibling}" in self.load_template()

    def annotate_group(self, episodes: list[Episode]) -> list[Episode]:
        """Notes the sibling of each episode, where the template names it."""
        if "{sibling}" not in self.load_template():
            return episodes
        return attach_siblings(episodes, self.min_sibling_score)


def attach_siblings(episodes: list[Episode], min_score: float) -> list[Episode]:
    """Each episode with the best answer of its group that scored strictly better, and at least `min_score`.

    It is the first of equals, without what it thought before `</think>`; None where there is none.
    """
    groups: dict[str, list[Episode]] = {}
    for episode in episodes:
        if episode.score >= min_score:  # NaN is not
            groups.setdefault(episode.task.key, []).append(episode)
    best = {key: max(group, key=lambda episode: episode.score) for key, group in groups.items()}
    found = []
    for episode in episodes:
        sibling = best.get(episode.task.key)
        text = None
        if sibling is not None and episode.score < sibling.score and sibling.response.strip():
            text = sibling.response.rpartition("</think>")[2].strip()
        found.append(replace(episode, sibling=text))
    return found
