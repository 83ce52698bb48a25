"""`Hint`: what only the teacher reads. It gives the episode as the teacher reads it; the policy's turns stay the same."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace

from feedback.hints.places import append_to_prompt
from feedback.hints.templates import fill_template, load_template
from feedback.types import Episode, Message

Shorten = Callable[[str, int], str]
"""Cuts a text to a number of tokens; whoever owns a tokenizer gives one."""


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
    """Whispers to the teacher."""

    @abstractmethod
    def build_hints(self, episode: Episode, shorten: Shorten = skip_truncation) -> list[HintedEpisode]:
        """What the teacher may be told about this episode, the best first; empty when there is nothing to say."""

    def annotate_group(self, episodes: list[Episode]) -> list[Episode]:
        """Notes on each episode what only the others of its group know; called with whole groups."""
        return episodes

    def __call__(self, episode: Episode, shorten: Shorten = skip_truncation) -> list[Message] | None:
        """The messages that the teacher reads before the last turn, under the best whisper; None for no hint."""
        found = self.build_hints(episode, shorten)
        if not found:
            return None
        hinted = found[0].episode
        return [*hinted.task.messages, *({"role": turn.role, "content": turn.text} for turn in hinted.turns[:-1])]


@dataclass(frozen=True)
class TemplateHint(Hint):
    """Fills a template with what is known about the episode; nothing is whispered where a value it names is absent."""

    template: str
    """A file of `feedback/prompts`, or a path, with {critique}, {sibling} (a better answer of the group), {revision},
    {demonstration}, {reference} and {response}. It is text with places for values; nothing in it is evaluated."""
    place: Callable = append_to_prompt
    """Where the words stand: feedback.hints.append_to_prompt, start_of_prompt, before_step, or a function of your own."""
    max_tokens: int | None = None
    """Most tokens of each value that is whispered (a critique, an answer …); a longer one is cut at its end, and
    counted. Null: never cut; a row that becomes too long then goes without hint."""
    success: float = 0.5
    """Least score of a {sibling}."""
    column: str = "demonstration"
    """Where {demonstration} comes from: a further column of the task's record."""

    def build_hints(self, episode: Episode, shorten: Shorten = skip_truncation) -> list[HintedEpisode]:
        """At most one, unless a kind of hint has several values to tell.

        Raises ValueError where `place` changed what the policy said.
        """
        found = [HintedEpisode(text, self.place(episode, text)) for text in self.render_texts(episode, shorten)]
        if any(_select_policy_turns(whisper.episode) != _select_policy_turns(episode) for whisper in found):
            raise ValueError(
                f"hint.place: got {self.place}, which changes a turn of the policy, expected one that "
                "changes another message"
            )
        return found

    def render_texts(self, episode: Episode, shorten: Shorten) -> list[str]:
        """The filled templates."""
        values, limit = self.collect_values(episode), self.max_tokens
        if limit is not None:
            values = {name: value and shorten(value, limit) for name, value in values.items()}
        text = self.fill(load_template(self.template), values)
        return [] if text is None else [text]

    def collect_values(self, episode: Episode) -> dict[str, str | None]:
        """What the names of a template stand for in this episode."""
        shown = episode.task.meta.get(self.column)
        return {
            "critique": episode.critique,
            "sibling": episode.sibling,
            "revision": episode.revision,
            "demonstration": shown if isinstance(shown, str) and shown.strip() else None,
            "reference": episode.task.reference,
            "response": episode.response or None,
        }

    def fill(self, template: str, values: dict[str, str | None]) -> str | None:
        """The template with values; None where there is nothing to say."""
        return fill_template(template, values)

    def annotate_group(self, episodes: list[Episode]) -> list[Episode]:
        """Notes the sibling of each episode, where the template names it."""
        return attach_siblings(episodes, self.success) if "{sibling}" in load_template(self.template) else episodes


def attach_siblings(episodes: list[Episode], success: float) -> list[Episode]:
    """Each episode with the best answer of its group that scored strictly better, and at least `success`; the first of
    equals, without what it thought before `</think>`. Where there is none, the note is absent."""
    groups: dict[str, list[Episode]] = {}
    for episode in episodes:
        if episode.score >= success:  # NaN is not
            groups.setdefault(episode.task.key, []).append(episode)
    best = {key: max(group, key=lambda episode: episode.score) for key, group in groups.items()}
    found = []
    for episode in episodes:
        sibling, text = best.get(episode.task.key), None
        if sibling is not None and episode.score < sibling.score and sibling.response.strip():
            text = sibling.response.rpartition("</think>")[2].strip()
        found.append(replace(episode, sibling=text))
    return found


def _select_policy_turns(episode: Episode) -> list:
    return [turn for turn in episode.turns if turn.role == "assistant"]
