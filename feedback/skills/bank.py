"""The bank: skills under ids of their own, in memory and as a JSON file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from feedback.faults import DataError, format_value
from feedback.logs.durable import write_whole
from feedback.skills.types import DEMONSTRATION, GENERAL, KINDS, ORIGINS, Skill

NUMBERED = re.compile(r"skill-(\d+)")


class BankFile(msgspec.Struct, forbid_unknown_fields=True):
    """The content of a bank's file."""

    skills: list[Skill]
    format: Literal[1] = 1
    """Version of this layout."""


@dataclass
class SkillBank:
    """Skills in the order in which they came; none is ever removed or changed.

    A new skill gets the number after the highest of this very bank, so that ids never collide, whatever was loaded,
    added or resumed before.
    """

    skills: tuple[Skill, ...] = ()

    def add(self, drafts: Iterable[Skill]) -> list[Skill]:
        """Gives each draft an id and keeps it; one that says what a skill of its kind and category says is left out.

        Returns:
            The skills that were added, with their ids.

        Raises:
            DataError: where one of them is no skill; then none is added.
        """
        known = {_identify(skill) for skill in self.skills}
        fresh: list[Skill] = []
        for draft in drafts:
            check_skill(draft, "a skill that is added", None)
            if _identify(draft) in known:
                continue
            known.add(_identify(draft))
            fresh.append(msgspec.structs.replace(draft, id=""))
        before = len(self.skills)
        self.skills = name_all([*self.skills, *fresh], "bank")
        return list(self.skills[before:])

    def to_json(self) -> bytes:
        """The file's bytes; equal banks give equal ones."""
        return msgspec.json.format(msgspec.json.encode(BankFile(list(self.skills))), indent=1) + b"\n"

    @classmethod
    def from_json(cls, data: bytes, file: str | Path = "bank") -> SkillBank:
        """The bank that these bytes hold: as `to_json` writes it, or as SkillRL publishes its own.

        Raises:
            DataError: where they hold no bank, or two skills of one id.
        """
        try:
            raw = msgspec.json.decode(data)
        except (msgspec.DecodeError, RecursionError) as fault:
            raise DataError(file, None, "skills", f"no JSON ({fault})", "a bank of skills as JSON") from None
        try:
            if isinstance(raw, dict) and "general_skills" in raw:
                raw = {"skills": _list_published(raw)}
            found = msgspec.convert(raw, BankFile).skills
        except (msgspec.ValidationError, TypeError, AttributeError) as fault:
            got = f"another content ({fault})"
            raise DataError(file, None, "skills", got, '{"skills": [{"title": …, "principle": …}, …]}') from None
        for place, skill in enumerate(found):
            check_skill(skill, file, place)
        return cls(name_all(found, file))

    def save(self, path: str | Path) -> None:
        """Writes the file: a kill leaves the old bank or the new one."""
        write_whole(Path(path), self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> SkillBank:
        """The bank of a file.

        Raises:
            DataError: where there is none, or it holds something else.
        """
        try:
            data = Path(path).read_bytes()
        except OSError as fault:
            raise DataError(path, None, "skills", f"no file ({fault.strerror})", "a bank of skills as JSON") from None
        return cls.from_json(data, path)


def check_skill(skill: Skill, file: str | Path, place: int | None) -> None:
    """
    Raises:
        DataError: where a skill says nothing, or has a kind or an origin that there is not.
    """
    where = "skill" if place is None else f"skills[{place}]"
    if not skill.principle.strip():
        raise DataError(file, None, f"{where}.principle", format_value(skill.principle), "what to do, in words")
    for name, value, known in (("kind", skill.kind, KINDS), ("origin", skill.origin, ORIGINS)):
        if value not in known:
            raise DataError(file, None, f"{where}.{name}", format_value(value), f"one of {', '.join(known)}")


def name_all(skills: Sequence[Skill], file: str | Path) -> tuple[Skill, ...]:
    """The skills with ids: their own, and numbers for those that have none.

    Raises:
        DataError: where two have the same.
    """
    counts = Counter(skill.id for skill in skills if skill.id)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise DataError(file, None, "skills", f"two with the id {format_value(twice[0])}", "ids of their own")
    taken = [int(match[1]) for name in counts if (match := NUMBERED.fullmatch(name))]
    number = max(taken, default=0)
    named = []
    for skill in skills:
        if not skill.id:
            number += 1
            skill = msgspec.structs.replace(skill, id=f"skill-{number:03d}")
        named.append(skill)
    return tuple(named)


def _identify(skill: Skill) -> tuple[str, str | None, str]:
    return skill.kind, skill.category, skill.principle.strip()


def _list_published(raw: dict[str, Any]) -> list[dict[str, Any]]:
    """The skills of a file of SkillRL (arXiv 2602.08234): general ones, those of each category, and mistakes. What does
    not have that layout is left for `msgspec` to refuse."""
    groups = [(GENERAL, None, raw["general_skills"])]
    groups += [(DEMONSTRATION, name, group) for name, group in raw.get("task_specific_skills", {}).items()]
    found = [
        {"id": entry.get("skill_id", ""), "kind": kind, "category": category}
        | {name: entry[name] for name in ("title", "principle", "when_to_apply") if name in entry}
        for kind, category, group in groups
        for entry in group
    ]
    for entry in raw.get("common_mistakes", []):
        words = [entry[name] for name in ("why_it_happens", "how_to_avoid") if entry.get(name)]
        title = entry.get("description", "")
        found.append({"id": entry.get("mistake_id", ""), "title": title, "principle": " ".join(words) or title})
    return found
