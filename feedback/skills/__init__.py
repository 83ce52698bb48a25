"""Skills: what attempts taught, in words that a policy or its teacher reads with later tasks."""

from feedback.skills.bank import SkillBank
from feedback.skills.choice import choose_failures, choose_outcomes, compute_success
from feedback.skills.embedding import Embedder, WordOverlap, select_similar
from feedback.skills.judge import JudgeSkills
from feedback.skills.types import Attempt, Skill, write_entry, write_principle
from feedback.skills.use import Shown, Skills, Whispered
from feedback.skills.writers import SkillWriter, TemplateSkills, Written, run_writer

__all__ = [
    "Attempt",
    "Embedder",
    "JudgeSkills",
    "Shown",
    "Skill",
    "SkillBank",
    "SkillWriter",
    "Skills",
    "TemplateSkills",
    "Whispered",
    "WordOverlap",
    "Written",
    "choose_failures",
    "choose_outcomes",
    "compute_success",
    "run_writer",
    "select_similar",
    "write_entry",
    "write_principle",
]
