"""How skills are used: retrieved for a task, and shown to the policy or whispered to the teacher."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from feedback.faults import DataError, format_value
from feedback.hints import append_to_prompt, fill_template, load_template
from feedback.returns import describe, refuse
from feedback.skills.bank import SkillBank
from feedback.skills.embedding import Embedder, select_similar
from feedback.skills.types import GENERAL, VALIDATION, Skill, write_entry
from feedback.types import Episode, Message, RetrievedSkill, Task

DIGITS = 4
"""Of a cosine that count: the last bits of an embedding depend on what else was in its batch."""


@dataclass
class Skills(ABC):
    """A bank, and which of its skills a task gets: all general ones, and of the others that fit its category the most
    similar to its prompt (SkillRL, arXiv 2602.08234). The bank is in every checkpoint; `fdt.callbacks.GrowSkills` adds
    to it."""

    embedder: Embedder
    """Places prompts and skills: fdt.embeddings.SentenceModel, or feedback.skills.WordOverlap, which needs no model."""
    file: str | None = None
    """Skills to begin with: a bank's JSON, or a file that SkillRL published; null: none."""
    top_k: int = 6
    """Most skills that are retrieved by similarity."""
    threshold: float = 0.4
    """The cosine that a retrieved skill lies strictly above, from -1 to 1."""
    category: str | None = None
    """Column of the task's record that names its category; null: one for all, so that every skill is a candidate."""
    write: Callable[[Skill], str] = write_entry
    """How a skill is stated: feedback.skills.write_entry, feedback.skills.write_principle, or your own function."""
    bank: SkillBank = field(init=False)
    """All skills."""
    withheld: frozenset[str] = field(init=False, default=frozenset())
    """Keys of held-out tasks: they get no skill that was learned from held-out answers."""

    shown = True
    """Whether the policy reads what is retrieved."""

    def __post_init__(self) -> None:
        self._vectors: dict[str, np.ndarray] = {}
        name = type(self).__name__
        if self.top_k < 0:
            raise DataError("config", None, f"{name}.top_k", format_value(self.top_k), "a number of at least 0")
        if not -1 <= self.threshold <= 1:
            raise DataError("config", None, f"{name}.threshold", format_value(self.threshold), "a cosine, -1 to 1")
        self.bank = SkillBank() if self.file is None else SkillBank.load(self.file)

    @abstractmethod
    def place_skills(self, messages: Sequence[Message], skills: Sequence[RetrievedSkill]) -> tuple[Message, ...]:
        """The prompt as the policy reads it."""

    def get_category(self, task: Task) -> str | None:
        """The kind of a task; None where tasks are not told apart.

        Raises:
            DataError: where its record has no such column.
        """
        if self.category is None:
            return None
        if self.category not in task.meta:
            known = ", ".join(map(str, task.meta)) or "none"
            raise DataError(
                "config", None, "data.skills.category", self.category, f"a column of {task.key}, which has: {known}"
            )
        return str(task.meta[self.category])

    def retrieve(self, tasks: Sequence[Task]) -> list[tuple[RetrievedSkill, ...]]:
        """The skills for each task: general ones, then the most similar first."""
        if not self.bank.skills:
            return [() for _ in tasks]
        prompts = [find_prompt(task) for task in tasks]
        self._embed([*prompts, *(skill.text for skill in self.bank.skills if skill.kind != GENERAL)])
        return [self._retrieve(task, prompt) for task, prompt in zip(tasks, prompts, strict=True)]

    def _retrieve(self, task: Task, prompt: str) -> tuple[RetrievedSkill, ...]:
        category = self.get_category(task)
        fitting = [s for s in self.bank.skills if s.origin != VALIDATION or task.key not in self.withheld]
        fitting = [s for s in fitting if self.category is None or s.category in (None, category)]
        general = [RetrievedSkill(s.id, self._state(s), None, self.shown) for s in fitting if s.kind == GENERAL]
        others = [skill for skill in fitting if skill.kind != GENERAL]
        near = [round(float(self._vectors[prompt] @ self._vectors[skill.text]), DIGITS) for skill in others]
        chosen = select_similar(near, self.top_k, self.threshold)
        return (*general, *(RetrievedSkill(others[n].id, self._state(others[n]), near[n], self.shown) for n in chosen))

    def _state(self, skill: Skill) -> str:
        text = self.write(skill)
        if not isinstance(text, str) or not text:
            raise refuse(self.write, f"{describe(text)} for {skill.id}", "the words of a skill")
        return text

    def _embed(self, texts: Sequence[str]) -> None:
        """Has vectors of new texts made; those of the bank and of the last prompts are kept."""
        new = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        if len(self._vectors) > len(texts) + KEPT:
            self._vectors = {text: self._vectors[text] for text in texts if text in self._vectors}
        if not new:
            return
        found = np.asarray(self.embedder(new))
        if found.ndim != 2 or len(found) != len(new):
            raise refuse(self.embedder, f"an array of shape {found.shape}", f"vectors of {len(new)} texts, [texts, D]")
        self._vectors |= dict(zip(new, found, strict=True))


KEPT = 8192
"""Vectors beyond those in use that are kept."""


@dataclass
class Shown(Skills):
    """The policy reads the skills in its prompt, in training and where it is measured; the episode says which."""

    template: str = "skills.txt"
    """A file of `feedback/prompts`, or a path, with {skills}: one a line."""
    place: Callable[[Episode, str], Episode] = append_to_prompt
    """Where they stand: feedback.hints.append_to_prompt, append_to_system, or your own function."""

    def place_skills(self, messages: Sequence[Message], skills: Sequence[RetrievedSkill]) -> tuple[Message, ...]:
        """The prompt with the skills, where there are any."""
        values = {"skills": "\n".join(skill.text for skill in skills) or None}
        text = fill_template(load_template(self.template), values) if skills else None
        if text is None:
            return tuple(messages)
        return self.place(Episode("prompt", Task("prompt", tuple(messages)), ()), text).task.messages


@dataclass
class Whispered(Skills):
    """Only the teacher reads the skills, through a hint whose template names {skills} (`feedback.hints.SkillHint`); the
    policy's prompt stays as it is."""

    shown = False

    def place_skills(self, messages: Sequence[Message], skills: Sequence[RetrievedSkill]) -> tuple[Message, ...]:
        """The prompt as it was."""
        return tuple(messages)


def find_prompt(task: Task) -> str:
    """What similarity is measured to: the last message of the user, else the last message."""
    own = [message for message in task.messages if message["role"] == "user"] or list(task.messages)
    content = own[-1]["content"] if own else ""
    return content if isinstance(content, str) else " ".join(str(part.get("text", "")) for part in content or ())
