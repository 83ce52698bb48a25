"""What a bank holds: one skill, in words."""

from __future__ import annotations

from msgspec import Struct

from feedback.types import Episode

DEMONSTRATION = "demonstration"
LESSON = "lesson"
GENERAL = "general"
KINDS = (DEMONSTRATION, LESSON, GENERAL)
"""From a win, from a loss, and what fits every task."""
GIVEN = "given"
TRAINING = "training"
VALIDATION = "validation"
ORIGINS = (GIVEN, TRAINING, VALIDATION)
"""Where a skill is from: written by somebody before the run, or learned from answers of the run."""


class Skill(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Something that an attempt taught, in words that help with another task (SkillRL, arXiv 2602.08234)."""

    id: str = ""
    """Its name in its bank, which gives it; empty before that."""
    kind: str = LESSON
    """One of `KINDS`."""
    category: str | None = None
    """The kind of task that it is for; None = every one."""
    title: str = ""
    """A few words."""
    principle: str = ""
    """What to do, or what to avoid and why."""
    when_to_apply: str = ""
    """For which tasks it holds; empty = not stated."""
    origin: str = GIVEN
    """One of `ORIGINS`."""
    author: str = ""
    """Who worded it: a judge's model, or the writer's class."""
    tasks: tuple[str, ...] = ()
    """Keys of the tasks whose attempts taught it."""
    step: int | None = None
    """Optimiser steps that the run had taken then."""

    @property
    def text(self) -> str:
        """What is embedded: title, principle and when it applies, as in SkillRL's code."""
        return ". ".join(part for part in (self.title, self.principle, self.when_to_apply) if part)


class Attempt(Struct, frozen=True):
    """An episode that a skill may be learned from."""

    episode: Episode
    category: str | None
    """The kind of its task; None where tasks are not told apart."""
    won: bool
    """Whether it counts as a success."""


def write_entry(skill: Skill) -> str:
    """One line: title, principle, and when it applies."""
    head = f"{skill.title}: " if skill.title and skill.title != skill.principle else ""
    tail = f" (when: {skill.when_to_apply})" if skill.when_to_apply else ""
    return f"- {head}{skill.principle}{tail}"


def write_principle(skill: Skill) -> str:
    """The principle alone, as it was worded."""
    return skill.principle
