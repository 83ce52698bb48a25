"""The kinds of hint, one for each thing that a teacher can be shown, and one for all that is known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from feedback.hints.base import HintedEpisode, TemplateHint, Truncate, skip_truncation
from feedback.hints.templates import compose_template
from feedback.types import Episode, deduplicate


@dataclass(frozen=True)
class CritiqueHint(TemplateHint):
    """The critique of this very answer (or whatever else its template names; all of that must exist)."""

    own_template: ClassVar[str | None] = "critique.txt"
    use_recorded: bool = False
    """True: where the episode has no critique of its own, the first one recorded for its task stands in the hint."""
    one_per_critique: bool = False
    """True: each distinct critique is a hint of its own, for `OneOf` to choose from; else all stand in one."""

    def collect_values(self, episode: Episode) -> dict[str, str | None]:
        """With a recorded critique in place of a missing one, if asked for."""
        found = super().collect_values(episode)
        if found["critique"] is None and self.use_recorded and episode.task.hints:
            found["critique"] = episode.task.hints[0]
        return found

    def build_hints(self, episode: Episode, truncate: Truncate = skip_truncation) -> list[HintedEpisode]:
        """One, or one for each critique, at the place of the turn that it is about."""
        critiques = deduplicate(item.text for item in episode.feedback)
        if not self.one_per_critique or len(critiques) < 2:
            return super().build_hints(episode, truncate)
        alone = (super(CritiqueHint, self).build_hints(_keep_critique(episode, text), truncate) for text in critiques)
        return [hint for hints in alone for hint in hints]


@dataclass(frozen=True)
class SiblingHint(TemplateHint):
    """A better answer of the same group (SDPO, arXiv 2601.20802); a group without success gives no hint."""

    own_template: ClassVar[str | None] = "sibling.txt"


@dataclass(frozen=True)
class RewriteHint(TemplateHint):
    """The corrected answer: the file's revision, or the rewrite that was accepted."""

    own_template: ClassVar[str | None] = "revision.txt"


@dataclass(frozen=True)
class DemonstrationHint(TemplateHint):
    """A demonstration that belongs to the prompt, from a column of its record (SDFT, arXiv 2601.19897)."""

    own_template: ClassVar[str | None] = "demonstration.txt"


@dataclass(frozen=True)
class ReferenceHint(TemplateHint):
    """The right answer. In place of a critique it is a control: does the critique teach, or the answer in it?"""

    own_template: ClassVar[str | None] = "reference.txt"
    critiqued_only: bool = False
    """True: only answers that have a critique, so that the same rows are distilled as under `CritiqueHint`; and the
    bare reference stands where {critique} does, so that the same template serves both."""

    def collect_values(self, episode: Episode) -> dict[str, str | None]:
        """With the reference in the critique's place, if asked for."""
        found = super().collect_values(episode)
        if self.critiqued_only:
            found["reference"] = found["reference"] if found["critique"] is not None else None
            found["critique"] = found["reference"]
        return found


@dataclass(frozen=True)
class SkillHint(TemplateHint):
    """The skills that were retrieved for the task, where `data.skills` is `feedback.skills.Whispered`: the teacher
    reads them, the policy does not. `ComposedHint` states them beside the critique, with a template that names both."""

    own_template: ClassVar[str | None] = "skills.txt"


@dataclass(frozen=True)
class ComposedHint(TemplateHint):
    """Whatever is known: a paragraph of the template whose value is absent is left out.

    Paragraphs are parted by blank lines. The template as shipped is SDPO's context (arXiv 2601.20802): a successful
    sibling, the feedback, and a last line.
    """

    own_template: ClassVar[str | None] = "composed.txt"

    def fill(self, template: str, values: dict[str, str | None]) -> str | None:
        """The paragraphs that have their values."""
        return compose_template(template, values)


def _keep_critique(episode: Episode, text: str) -> Episode:
    """The episode with this critique alone."""
    rest = (item if item.text in (None, text) else replace(item, text=None) for item in episode.feedback)
    return replace(episode, feedback=tuple(rest))
