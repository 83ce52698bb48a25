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
"""Kinds of turns; a turn's kind is noted as an index into this tuple, 0 where it is ill-formed."""


@dataclass(frozen=True)
class ParsedTurn:
    """What a turn is: its kind (an index into `TAGS`), its action, and what is wrong with it."""

    tag: int
    action: str
    fault: str | None


@dataclass(frozen=True)
class MetaTags(RuleGrader):
    """Reads one tag and one action from each assistant turn, and rewards turns by what became of them.

    - ill-formed (not exactly one tag, not empty, before exactly one `<action>`): 0, and the turn's format score 0;
    - planning: `planning` times `decay` to the number of planning turns that follow, if the episode succeeded, else 0;
    - explore: `explore` where this action was not taken before after the same observation;
    - reflection: `reflection` where the action before it failed and this one differs;
    - monitor: 0.

    The kinds go to `Episode.turn_tags`, one number for each assistant turn. Success is the episode's score so
    far, so verifiers come first; without a score planning is NaN. The paper's -0.1 for ill-formed turns is left to a
    `FormatGate`, since scores lie in [0, 1].
    """

    planning: float = 1.0
    """Reward of planning in an episode that succeeds."""
    explore: float = 1.0
    """Reward of something new."""
    reflection: float = 1.0
    """Reward of another action after a failed one."""
    decay: float = 1.0
    """Discount for each planning turn that follows; 1 as in the published code, the paper discounts."""
    success: float = 0.5
    """An episode whose score is at least this succeeded."""
    failure: str = r"(?i)nothing happens|\bled against\b|\bno move\b|\b(?:invalid|error|failed|cannot|unknown)\b"
    """An action failed where the reply to it matches this, in the syntax of the package `regex`; or where it was
    ill-formed, or a judge gave its turn a score below 0.5."""
    rewards: tuple[str, ...] = ("reward",)
    """Names of turn scores that are shares of a return, not verdicts: a small one is no failure."""

    def __post_init__(self) -> None:
        patterns.compile_pattern(self.failure)
        for name in ("planning", "explore", "reflection", "decay"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: got {getattr(self, name)}, expected a number from 0 to 1")

    def grade(self, episode: Episode) -> Episode:
        """Adds a `Feedback` named "meta" and a format score for each assistant turn, and notes their kinds."""
        observations, replies = collect_observations(episode)
        turns = [parse_turn(turn.text) for turn in episode.policy_turns]
        try:
            failed = self._find_failures(episode, turns, replies)
        except TimeoutError as slow:
            warn_ungraded(str(slow))
            return episode
        rewards = [self._compute_reward(episode, turns, observations, failed, n) for n in range(len(turns))]
        for n, (turn, reward) in enumerate(zip(turns, rewards, strict=True)):
            episode = update_format_score(episode, turn.fault, n)
            episode = episode.add_feedback(build_rule_feedback("meta", reward, self._write_critique(turn, reward), n))
        return replace(episode, turn_tags=tuple(turn.tag for turn in turns))

    def _find_failures(self, episode: Episode, turns: list[ParsedTurn], replies: list[str]) -> list[bool]:
        low = {item.turn for item in episode.feedback if item.score < 0.5 and item.name not in self.rewards}
        return [
            turn.fault is not None or n in low or patterns.search(self.failure, reply) is not None
            for n, (turn, reply) in enumerate(zip(turns, replies, strict=True))
        ]

    def _compute_reward(
        self, episode: Episode, turns: list[ParsedTurn], observations: list[str], failed: list[bool], n: int
    ) -> float:
        turn = turns[n]
        kind = TAGS[turn.tag]
        if kind == "planning":
            following = sum(TAGS[later.tag] == "planning" for later in turns[n + 1 :])
            reward = self.planning * self.decay**following * (episode.score >= self.success)
            return math.nan if math.isnan(episode.score) else reward
        if kind == "explore":
            known = {(observations[m], turns[m].action) for m in range(n) if turns[m].tag}
            return self.explore * ((observations[n], turn.action) not in known)
        if kind == "reflection" and n:
            return self.reflection * (failed[n - 1] and turns[n - 1].action != turn.action)
        return 0.0

    @staticmethod
    def _write_critique(turn: ParsedTurn, reward: float) -> str | None:
        if reward != 0:
            return None
        return {
            "explore": "It explores what it has tried before: try something new.",
            "reflection": "It reflects without changing an action that failed.",
        }.get(TAGS[turn.tag])


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
    """For each assistant turn what was observed last before it, and what was replied to it ("" where nothing was)."""
    observations: list[str] = []
    replies: list[str] = []
    last = str(episode.task.messages[-1].get("content", "")) if episode.task.messages else ""
    for turn in episode.turns:
        if turn.role == "assistant":
            observations.append(last)
            replies.append("")
        else:
            last = turn.text
            if replies:
                replies[-1] += turn.text
    return observations, replies
