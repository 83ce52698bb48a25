"""What only the teacher reads: kinds of hint, where they stand, and which of several it reads."""

from feedback.hints.base import (
    Hint,
    HintedEpisode,
    TemplateHint,
    Truncate,
    annotate_group,
    attach_siblings,
    run_hint,
    skip_truncation,
)
from feedback.hints.choice import OneOf, keep_order, sort_longest_first, sort_shortest_first
from feedback.hints.kinds import (
    ComposedHint,
    CritiqueHint,
    DemonstrationHint,
    ReferenceHint,
    RewriteHint,
    SiblingHint,
    SkillHint,
)
from feedback.hints.places import append_to_messages, append_to_prompt, append_to_system, insert_before_turn
from feedback.hints.shuffle import shuffle_critiques
from feedback.hints.templates import compose_template, fill_template, load_template

__all__ = [
    "ComposedHint",
    "CritiqueHint",
    "DemonstrationHint",
    "Hint",
    "HintedEpisode",
    "OneOf",
    "ReferenceHint",
    "RewriteHint",
    "SiblingHint",
    "SkillHint",
    "TemplateHint",
    "Truncate",
    "annotate_group",
    "append_to_messages",
    "append_to_prompt",
    "append_to_system",
    "attach_siblings",
    "compose_template",
    "fill_template",
    "insert_before_turn",
    "keep_order",
    "load_template",
    "run_hint",
    "shuffle_critiques",
    "skip_truncation",
    "sort_longest_first",
    "sort_shortest_first",
]
