"""Tags of meta-reasoning and their rewards by rule (RLVMR, arXiv 2507.22844, algorithm 3)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

from feedback.graders import patterns
from feedback.graders.base import RuleGrader, build_rule_feedback, update_format_score
from feedback.graders.extract import find_spans
from feedback.graders.verifier import warn_ungraded
from feedback.types import Episode

TAGS = ("none", "planning", "explore", "reflection", "monitor")
"""Kinds of steps; a step's kind is noted as a place in this tuple, 0 where it is ill-formed."""


@dataclass(frozen=True)
class ParsedTurn:
    """What a turn says about itself: its kind (a place in `TAGS`), its action, and what is wrong with it."""

    tag: int
    action: str
    fault: str | None


@dataclass(frozen=True)
class MetaTags(RuleGrader):
    """Reads one tag and one action from each assistant turn, and pays steps by what became of them.

    - ill-formed (not exactly one tag, not empty, before exactly one `<action>`): 0, and the step's format mark 0;
    - planning: `planning` times `decay` to the number of planning steps that follow, if the episode succeeded, else 0;
    - explore: `explore` where this action was not taken before from what was read last;
    - reflection: `reflection` where the action before it failed and this one differs;
    - monitor: 0.

    The kinds go to `Episode.turn_tags`, one number for each assistant turn. Success is the episode's score so
    far, so verifiers come first; without a score planning is NaN. The paper's -0.1 for ill-formed steps is left to a
    `FormatGate`, since scores lie in [0, 1].
    """

    planning: float = 1.0
    """Reward of planning in an episode that succeeds."""
    explore: float = 1.0
    """Reward of something new."""
    reflection: float = 1.0
    """Reward of another action after a failed one."""
    decay: float = 1.0
    """Discount for each planning step that follows; 1 as in the published code, the paper discounts."""
    success: float = 0.5
    """An episode whose score is at least this succeeded."""
    failure: str = r"(?i)nothing happens|\bled against\b|\bno move\b|\b(?:invalid|error|failed|cannot|unknown)\b"
    """An action failed where the reply to it matches this, in the syntax of the package `regex`; or where it was
    ill-formed, or a judge gave its step a score below 0.5."""
    rewards: tuple[str, ...] = ("reward",)
    """Scores of steps that are shares of a return, not verdicts: a small one is no failure."""

    def __post_init__(self) -> None:
        patterns.compile_pattern(self.failure)
        for name in ("planning", "explore", "reflection", "decay"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: got {getattr(self, name)}, expected a number from 0 to 1")

    def grade(self, episode: Episode) -> Episode:
        """Adds a `Feedback` named "meta" and a format mark for each assistant turn, and the note of their kinds."""
        read, replies = collect_observations(episode)
        steps = [parse_turn(turn.text) for turn in episode.turns if turn.role == "assistant"]
        try:
            failed = self._find_failures(episode, steps, replies)
        except TimeoutError as slow:
            warn_ungraded(str(slow))
            return episode
        paid = [self._compute_reward(episode, steps, read, failed, place) for place in range(len(steps))]
        for place, (step, reward) in enumerate(zip(steps, paid, strict=True)):
            episode = update_format_score(episode, step.fault, place)
            episode = episode.add_feedback(
                build_rule_feedback("meta", reward, self._write_critique(step, reward), place)
            )
        return replace(episode, turn_tags=tuple(step.tag for step in steps))

    def _find_failures(self, episode: Episode, steps: list[ParsedTurn], replies: list[str]) -> list[bool]:
        low = {item.turn for item in episode.feedback if item.score < 0.5 and item.name not in self.rewards}
        return [
            step.fault is not None or place in low or patterns.search(self.failure, reply) is not None
            for place, (step, reply) in enumerate(zip(steps, replies, strict=True))
        ]

    def _compute_reward(
        self, episode: Episode, steps: list[ParsedTurn], read: list[str], failed: list[bool], place: int
    ) -> float:
        step, kind = steps[place], TAGS[steps[place].tag]
        if kind == "planning":
            following = sum(TAGS[later.tag] == "planning" for later in steps[place + 1 :])
            worth = self.planning * self.decay**following * (episode.score >= self.success)
            return math.nan if math.isnan(episode.score) else worth
        if kind == "explore":
            known = {(read[n], steps[n].action) for n in range(place) if steps[n].tag}
            return self.explore * ((read[place], step.action) not in known)
        if kind == "reflection" and place:
            return self.reflection * (failed[place - 1] and steps[place - 1].action != step.action)
        return 0.0

    @staticmethod
    def _write_critique(step: ParsedTurn, reward: float) -> str | None:
        if reward != 0:
            return None
        return {
            "explore": "It explores what it has tried before: try something new.",
            "reflection": "It reflects without changing an action that failed.",
        }.get(TAGS[step.tag])


def parse_turn(text: str) -> ParsedTurn:
    """The kind, the action and the fault of one turn."""
    found = [(tag, span) for tag, name in enumerate(TAGS) if tag for span in find_spans(text, name)]
    actions = find_spans(text, "action")
    action = text[actions[0][1] : actions[0][2]].strip() if len(actions) == 1 else ""
    fault = None
    if len(found) != 1:
        fault = f"It has {len(found)} tags of reasoning; exactly one of <{'>, <'.join(TAGS[1:])}> is needed."
    elif len(actions) != 1:
        fault = f"It has {len(actions)} <action>...</action>; exactly one is needed."
    elif not action or not text[found[0][1][1] : found[0][1][2]].strip():
        fault = "Its tag of reasoning or its <action> is empty."
    elif found[0][1][3] > actions[0][0]:
        fault = "Its tag of reasoning must come before its <action>."
    return ParsedTurn(0 if fault else found[0][0], re.sub(r"\s+", " ", action).casefold(), fault)


def collect_observations(episode: Episode) -> tuple[list[str], list[str]]:
    """For each assistant turn what was read last before it, and what was replied to it ("" where nothing was)."""
    read, replies, last = [], [], str(episode.task.messages[-1].get("content", "")) if episode.task.messages else ""
    for turn in episode.turns:
        if turn.role == "assistant":
            read.append(last)
            replies.append("")
        else:
            last = turn.text
            if replies:
                replies[-1] += turn.text
    return read, replies
