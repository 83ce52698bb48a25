"""Trust in annotators, estimated from scored answers, without sampling further ones.

A critique is judged by the teacher that reads it. The teacher's acceptance of the policy's own answer, min(1, T(y) /
pi(y)), is the chance that it would accept the answer (as in speculative sampling, arXiv 2211.17192). An answer that was
scored right counts for the annotator as far as the teacher accepts it and against as far as not. One that was scored
wrong counts against as far as the critique made it likelier, 1 - min(1, pi(y) / T(y)), and else neither way: a teacher
that lets a wrong answer stand just as it was has not understood the critique, which says nothing of its author.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace

import torch
from torch import Tensor

from fdt.data.batch import Batch
from fdt.distributed import gather_objects
from feedback.types import Episode
from objectives import TokenLogProbs, segments
from objectives.losses.token_weights import compute_acceptance

Counts = dict[str, tuple[float, float]]
"""Per annotator, how much counted for and against."""
SCORE = "trust"
"""Name of the score of each row that gates read."""


class AnnotatorTrust:
    """A Beta posterior for each annotator: trust = (prior for + counted for) / (both priors + all that counted)."""

    def __init__(self, prior_right: float = 1.0, prior_wrong: float = 1.0, threshold: float = 0.5) -> None:
        """
        Args:
            prior_right: counts for an annotator before any answer was scored.
            prior_wrong: counts against.
            threshold: an answer that scores at least this is right.
        """
        if min(prior_right, prior_wrong) <= 0:
            raise ValueError(f"AnnotatorTrust: got priors {prior_right} and {prior_wrong}, expected both above 0")
        self.prior_right = prior_right
        self.prior_wrong = prior_wrong
        self.threshold = threshold
        self.counts: Counts = {}
        self.pending: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])

    def get_mean(self, annotator: str) -> float:
        """Trust in an annotator, in [0, 1]."""
        right, wrong = self.counts.get(annotator, (0.0, 0.0))
        return (self.prior_right + right) / (self.prior_right + self.prior_wrong + right + wrong)

    def weigh_score(self, episode: Episode) -> float:
        """What the critiques of an answer leave to its score, in [0, 1]: 1 less the mean trust in those who criticised;
        1 where nobody did."""
        trust = self._average(episode)
        return 1.0 if math.isnan(trust) else 1 - trust

    def _average(self, episode: Episode) -> float:
        """The mean trust in those who criticised an answer; NaN where nobody did."""
        found = [self.get_mean(name) for name in list_annotators(episode)]
        return sum(found) / len(found) if found else math.nan

    def add_scores(self, batch: Batch) -> Batch:
        """The batch with the score ``trust``: NaN for a row that nobody criticised, the mean where several did."""
        values = [self._average(episode) for episode in batch.episodes]
        values += [math.nan] * (len(batch.rollouts.task) - len(values))
        trust = torch.tensor(values, device=batch.rollouts.task.device)
        return replace(batch, rollouts=replace(batch.rollouts, scores=batch.rollouts.scores | {SCORE: trust}))

    @torch.no_grad()
    def collect(self, part: Batch, student: TokenLogProbs, others: dict[str, TokenLogProbs]) -> None:
        """Takes in the scored answers of a micro-batch that a teacher re-read."""
        if "teacher" not in others or not part.episodes:
            return
        # The stand-in of a rank without a teacher view is not in the mask.
        read = part.rollouts.masks["distilled"][others["teacher"].index]
        teacher = others["teacher"].select(read.nonzero()[:, 0])
        accepted, raised = self._compare(student, teacher, part)
        scores = part.rollouts.scores["score"]
        for row, episode in zip(part.rollouts.episode.unique().tolist(), part.episodes, strict=True):
            kept = float(accepted[row])
            score = float(scores[row])
            if math.isnan(kept) or math.isnan(score):
                continue
            right = score >= self.threshold
            for name in list_annotators(episode):
                self.pending[name][0] += kept * right
                self.pending[name][1] += 1 - kept if right else float(raised[row])

    @staticmethod
    def _compare(student: TokenLogProbs, teacher: TokenLogProbs, part: Batch) -> tuple[Tensor, Tensor]:
        """min(1, T / pi) and 1 - min(1, pi / T) of each row's whole answer ``[rows]``, the former NaN for a row that
        the teacher did not read."""
        rows = len(part.rollouts.task)
        where = part.rollouts.episode[teacher.index]
        gap = teacher.log_probs.detach() - student.log_probs.detach()[teacher.index]
        accepted = compute_acceptance(gap, where, rows).where(segments.count(where, rows) > 0, torch.nan)
        return accepted, 1 - compute_acceptance(-gap, where, rows)

    def update(self, taken: bool = True) -> dict[str, float]:
        """Adds what all ranks collected in this step, unless the step was not taken; gives the trust in each annotator
        for the log."""
        for found in gather_objects({name: tuple(pair) for name, pair in self.pending.items()}) if taken else ():
            for name, (right, wrong) in found.items():
                before = self.counts.get(name, (0.0, 0.0))
                self.counts[name] = (before[0] + right, before[1] + wrong)
        self.pending.clear()
        return {f"signals/trust/{name}": self.get_mean(name) for name in sorted(self.counts)}


def list_annotators(episode: Episode) -> tuple[str, ...]:
    """Names of those who criticised an episode in words, each once; without a name, the source of the feedback."""
    return tuple(dict.fromkeys(item.annotator or item.source for item in episode.feedback if item.text))
