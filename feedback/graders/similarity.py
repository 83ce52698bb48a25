"""How near a step comes to the expert's (SRL, arXiv 2510.25992): a reward between 0 and 1 where right or wrong is too
coarse."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from feedback.graders.base import RuleGrader, build_rule_feedback, update_format_score
from feedback.types import Episode

LONGEST = 500
"""Units of each side that are compared; what follows counts as unmatched."""
THOUGHT = re.compile(r"</?think>", re.IGNORECASE)


def split_words(text: str) -> list[str]:
    """The words of a text, split at white space."""
    return text.split()


def split_characters(text: str) -> list[str]:
    """The characters of a text."""
    return list(text)


@dataclass(frozen=True)
class StepSimilarity(RuleGrader):
    """Scores a step by its similarity to the expert's: 2 M / T, M units that match in order, T units on both sides.

    The expert's steps are a list of texts in the task's meta, one for each assistant turn (turns beyond the list are
    not judged); without it the reference is the step that the last turn should take. Thinking, up to `</think>`, is not
    compared. An answer that never closes its thinking takes no step: its similarity is 0 and its format score 0, from
    which a `FormatGate` makes the paper's -1.
    """

    steps: str = "steps"
    """Name of the column that holds the expert's steps."""
    split: Callable[[str], Sequence[str]] = split_words
    """What is matched: feedback.graders.similarity.split_words or split_characters; the paper does not say. Words are
    quicker and do not reward shared letters."""
    require_thinking: bool = False
    """Whether every answer must think first, `<think>...</think>` and then the step, to be well-formed."""
    reveal: bool = True
    """True: the critique states the expert's step. False: it says how much of it is missing."""

    def grade(self, episode: Episode) -> Episode:
        """Adds a `Feedback` named "similarity" and a format score for each step that has an expert's."""
        experts = episode.task.meta.get(self.steps)
        if not isinstance(experts, list):
            return self._compare(episode, episode.response, episode.task.reference, None)
        steps = [turn.text for turn in episode.policy_turns]
        for turn, (text, expert) in enumerate(zip(steps, experts, strict=False)):
            episode = self._compare(episode, text, expert, turn)
        return episode

    def _compare(self, episode: Episode, text: str, expert: object, turn: int | None) -> Episode:
        if not isinstance(expert, str) or not expert.strip():
            return episode
        action = strip_thinking(text, self.require_thinking)
        score = compute_similarity(action or "", expert.strip(), self.split)
        critique = self._write_critique(score, expert.strip()) if score < 1 else None
        fault = None if action is not None else "It must think inside <think>...</think> and then take a step."
        graded = episode.add_feedback(build_rule_feedback("similarity", score, critique, turn))
        return update_format_score(graded, fault, turn)

    def _write_critique(self, score: float, expert: str) -> str:
        if self.reveal:
            return f"The expert's step is: {expert}"
        return f"It shares {score:.0%} with the expert's step."


def strip_thinking(text: str, required: bool = False) -> str | None:
    """The step that a turn takes, after its thinking; None where that is never closed, or is `required` and absent."""
    tags = list(THOUGHT.finditer(text))
    closed = [tag.end() for tag in tags if tag[0].startswith("</")]
    if closed:
        return text[closed[-1] :].strip()
    return None if tags or required else text.strip()


def compute_similarity(first: str, second: str, split: Callable[[str], Sequence[str]] = split_words) -> float:
    """2 M / T in [0, 1]; 1 for two empty texts. Of long texts the first `LONGEST` units are matched.

    M sums the longest common runs, found one after the other (Ratcliff and Obershelp). No unit is junk: `difflib` would
    else drop those that are frequent in texts of 200 units and more. The order of the arguments matters a little.
    """
    one = split(first)
    two = split(second)
    if not one and not two:
        return 1.0
    matcher = SequenceMatcher(None, one[:LONGEST], two[:LONGEST], autojunk=False)
    return 2 * sum(block.size for block in matcher.get_matching_blocks()) / (len(one) + len(two))
