"""A process reward: each step of an answer gets a number, and the answer one for all of them."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fdt.data.tokenization import tokenize_answer, tokenize_prompt
from fdt.errors import UserError
from fdt.reward_models.local import (
    LocalClassifier,
    RowTruncator,
    build_context,
    compute_logits,
    load_classifier,
    try_tokenize,
)
from feedback.graders import Grader
from feedback.types import Episode, Feedback

BLANK = re.compile(r"\n[ \t]*\n")
THINK_TAG = re.compile(r"</?think>", re.IGNORECASE)


@dataclass(frozen=True)
class TurnSteps:
    """One assistant turn, cut into steps."""

    turn_index: int
    """Its place among the episode's turns."""
    steps: tuple[str, ...]
    """The steps of its thinking, then those of its answer."""
    thinking_steps: int
    """How many of them are thinking."""


@dataclass(frozen=True)
class ProcessReward(Grader):
    """Scores steps with a token classifier, as ReasonFlux-PRM does (arXiv 2506.18896, interface of its 7B model).

    A turn is split into steps at blank lines. The model reads the conversation and the steps, each followed by
    ``separator``; the probability of the last label there (of a single output: its sigmoid) is the step's score.

    - "process", for each assistant turn: the mean over its steps;
    - "trajectory", for the episode: (mean of the thinking steps + alpha * mean of the answer's steps) / (1 + alpha),
      which is the paper's score brought to [0, 1].

    Chosen here, since the paper leaves it open: thinking ends at ``</think>``; without one, the last step is the answer
    and those before it the thinking; without thinking the answer's mean stands alone. Earlier turns are read as they
    are, without separators, and the last turn makes the trajectory. The scores of single steps go to
    ``Episode.process_scores``, one list for each assistant turn.
    """

    model: str
    """A folder or hub id with a token classifier."""
    separator: str = "<extra_0>"
    """The token after each step; one token of the model's vocabulary, which no text can write."""
    alpha: float = 1.0
    """Weight of the answer beside the thinking; the paper found 1 and more best."""
    max_tokens: int = 4096
    """Longest row [tokens]; a longer conversation loses its beginning, which is warned about with the count."""
    budget: int = 16384
    """Tokens of one forward, padding included."""
    device: str = "auto"
    """auto: the process's GPU, else the CPU. Or a device of torch."""

    def __call__(self, episodes: list[Episode]) -> list[Episode]:
        """Adds a ``Feedback`` for each assistant turn and one for the episode, where they could be read."""
        local = load_classifier(self.model, "AutoModelForTokenClassification", self.device)
        separator = get_separator_id(self.separator, local)
        fit = RowTruncator(min(self.max_tokens, local.max_length))
        turns = [split_turns(episode) for episode in episodes]
        rows = [
            [self._build_row(episode, turn, local, separator, fit) for turn in own]
            for episode, own in zip(episodes, turns, strict=True)
        ]
        fit.warn_truncated(local.name)
        fitting = [row for own in rows for row in own if row]
        outputs = iter(compute_logits(local, fitting, self.budget))
        scores = [[compute_step_scores(row, next(outputs), separator) if row else [] for row in own] for own in rows]
        return [
            self._add_feedback(episode, own, values, local.name)
            for episode, own, values in zip(episodes, turns, scores, strict=True)
        ]

    @staticmethod
    def _build_row(
        episode: Episode, turn: TurnSteps, local: LocalClassifier, separator: int, fit: RowTruncator
    ) -> list[int] | None:
        context = try_tokenize(tokenize_prompt, build_context(episode, turn.turn_index), local.tokenizer)
        steps = [try_tokenize(tokenize_answer, step, local.tokenizer, False) for step in turn.steps]
        known = [step for step in steps if step is not None]
        if context is None or len(known) < len(steps):
            return None
        return fit(context, [token for step in known for token in [*step, separator]])

    def _add_feedback(self, episode: Episode, turns: list[TurnSteps], scores: list[list[float]], name: str) -> Episode:
        for number, values in enumerate(scores):
            if values:
                mean = sum(values) / len(values)
                episode = episode.add_feedback(Feedback("llm", name, "process", mean, turn=number))
        if scores and scores[-1]:
            thinking = turns[-1].thinking_steps
            whole = compute_trajectory_score(scores[-1][:thinking], scores[-1][thinking:], self.alpha)
            episode = episode.add_feedback(Feedback("llm", name, "trajectory", whole))
        return replace(episode, process_scores=tuple(map(tuple, scores)))


def get_separator_id(separator: str, local: LocalClassifier) -> int:
    """The separator's token id. Raises UserError where it is not one added token of the tokenizer."""
    found = local.tokenizer.get_added_vocab().get(separator)
    if found is None:
        raise UserError(
            "no such token", got=separator, expected=f"an added token of {local.name}'s tokenizer", key="separator"
        )
    return int(found)


def split_turns(episode: Episode) -> list[TurnSteps]:
    """The assistant turns of an episode, cut into steps."""
    return [
        TurnSteps(index, *split_steps(turn.text))
        for index, turn in enumerate(episode.turns)
        if turn.role == "assistant"
    ]


def split_steps(text: str) -> tuple[tuple[str, ...], int]:
    """The steps of a turn, and how many of them are thinking."""
    ends = [tag for tag in THINK_TAG.finditer(text) if tag[0].startswith("</")]
    if not ends:
        steps = _split_paragraphs(text)
        return steps, max(0, len(steps) - 1)
    thinking = _split_paragraphs(text[: ends[-1].start()])
    answer = _split_paragraphs(text[ends[-1].end() :])
    return thinking + answer, len(thinking)


def _split_paragraphs(text: str) -> tuple[str, ...]:
    found = (THINK_TAG.sub("", part).strip() for part in BLANK.split(text))
    return tuple(part for part in found if part)


def compute_step_scores(row: list[int], outputs: Tensor, separator: int) -> list[float]:
    """Scores in [0, 1] of the steps of one row, from ``[tokens, labels]``, found by the separator's place."""
    at = outputs[torch.tensor(row) == separator]
    return (at[:, 0].sigmoid() if at.shape[1] == 1 else at.softmax(1)[:, -1]).tolist()


def compute_trajectory_score(thinking: list[float], answer: list[float], alpha: float) -> float:
    """(mean thinking + alpha * mean answer) / (1 + alpha) in [0, 1]; the one that is there where the other is absent.

    Raises:
        ValueError: where both are empty.
    """
    if not thinking and not answer:
        raise ValueError("compute_trajectory_score: got no steps, expected at least one")
    means = [sum(part) / len(part) for part in (thinking, answer) if part]
    return means[0] if len(means) == 1 else (means[0] + alpha * means[1]) / (1 + alpha)
