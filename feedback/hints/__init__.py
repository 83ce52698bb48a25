"""What only the teacher reads: kinds of hint, where they stand, and which of several is told."""

from feedback.hints.base import SIBLING, Hint, Shorten, TemplateHint, Whisper, uncut, with_siblings
from feedback.hints.choice import OneOf, first, longest, shortest
from feedback.hints.kinds import (
    ComposedHint,
    CritiqueHint,
    DemonstrationHint,
    ReferenceHint,
    RewriteHint,
    SiblingHint,
)
from feedback.hints.places import before_step, end_of_prompt, placed, start_of_prompt
from feedback.hints.shuffle import shuffle_critiques
from feedback.hints.templates import composed, filled, load_template

__all__ = [
    "SIBLING",
    "ComposedHint",
    "CritiqueHint",
    "DemonstrationHint",
    "Hint",
    "OneOf",
    "ReferenceHint",
    "RewriteHint",
    "Shorten",
    "SiblingHint",
    "TemplateHint",
    "Whisper",
    "before_step",
    "composed",
    "end_of_prompt",
    "filled",
    "first",
    "load_template",
    "longest",
    "placed",
    "shortest",
    "shuffle_critiques",
    "start_of_prompt",
    "uncut",
    "with_siblings",
]
