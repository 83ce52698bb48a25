"""Trust in annotators, estimated from scored answers, without sampling further ones.

A critique is judged by the teacher that reads it. The teacher's acceptance of the policy's own answer, min(1, T(y) /
pi(y)), is the chance that it would accept the answer (as in speculative sampling, arXiv 2211.17192). An answer that was
scored right counts for the annotator as far as the teacher accepts it and against as far as not; one that was scored
wrong counts against as far as the teacher accepts it, and neither way where it does not.
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

    def add_scores(self, batch: Batch) -> Batch:
        """The batch with the score ``trust``: NaN for a row that nobody criticised, the mean where several did."""
        found = [[self.get_mean(name) for name in list_annotators(episode)] for episode in batch.episodes]
        values = [sum(each) / len(each) if each else math.nan for each in found]
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
        accepted = compute_acceptance(student, teacher, part.rollouts.episode, len(part.rollouts.task))
        scores = part.rollouts.scores["score"]
        for row, episode in zip(part.rollouts.episode.unique().tolist(), part.episodes, strict=True):
            chance = float(accepted[row])
            score = float(scores[row])
            if math.isnan(chance) or math.isnan(score):
                continue
            for name in list_annotators(episode):
                self.pending[name][0] += chance * (score >= self.threshold)
                self.pending[name][1] += 1 - chance if score >= self.threshold else chance

    def update(self, taken: bool = True) -> dict[str, float]:
        """Adds what all ranks collected in this step, unless the step was not taken; gives the trust in each annotator
        for the log."""
        for found in gather_objects({name: tuple(pair) for name, pair in self.pending.items()}) if taken else ():
            for name, (right, wrong) in found.items():
                before = self.counts.get(name, (0.0, 0.0))
                self.counts[name] = (before[0] + right, before[1] + wrong)
        self.pending.clear()
        return {f"signals/trust/{name}": self.get_mean(name) for name in sorted(self.counts)}


def compute_acceptance(student: TokenLogProbs, teacher: TokenLogProbs, row: Tensor, rows: int) -> Tensor:
    """min(1, T(y) / pi(y)) of each row's whole answer, NaN for a row that the teacher did not read ``[rows]``."""
    mine = student.log_probs.detach()[teacher.index]
    gap = (teacher.log_probs.detach() - mine).float()
    where = row[teacher.index]
    total = segments.total(gap, where, rows)
    return total.clamp(max=0).exp().where(segments.count(where, rows) > 0, torch.nan)


def list_annotators(episode: Episode) -> tuple[str, ...]:
    """Names of those who criticised an episode in words, each once; without a name, the source of the feedback."""
    return tuple(dict.fromkeys(item.annotator or item.source for item in episode.feedback if item.text))
