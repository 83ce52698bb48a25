"""Trust in annotators, estimated from scored answers, without sampling further ones.

A critique is judged by the teacher that reads it. The teacher's acceptance of the policy's own answer, min(1, T(y) /
pi(y)), is the chance that it would accept the answer (as in speculative sampling, arXiv 2211.17192). An answer that was
scored right counts for the annotator as far as the teacher accepts it and against as far as not. One that was scored
wrong counts against as far as the critique made it likelier, 1 - min(1, pi(y) / T(y)), and else neither way: a teacher
that lets a wrong answer stand just as it was has not understood the critique, which says nothing of its author.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import torch

from fdt.data.batch import Batch
from fdt.distributed import gather_objects
from feedback.types import Episode
from objectives import TokenLogProbs, segments

Counts = dict[str, tuple[float, float]]
"""Per annotator, how much counted for and against."""
SCORE = "trust"
"""Name of the score of each row that gates read."""


HINT = "hint"
"""Who is trusted with a hint that nobody wrote, such as a reference or a better answer of the group."""


class Reading(NamedTuple):
    """A scored answer that a teacher re-read in this step."""

    episode: Episode
    score: float
    log_ratio: float
    """log T(y) - log pi(y) of the whole answer [nats]."""


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
        self._read: dict[int, Reading] = {}

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

    def _weigh_critique(self, episode: Episode, is_taught: bool) -> float:
        """The trust that counts for an answer, NaN for none."""
        if is_taught:
            return self._average(episode) if list_annotators(episode) else self.get_mean(HINT)
        return math.nan if is_fresh(episode) else self._average(episode)

    def add_scores(self, batch: Batch) -> Batch:
        """The batch with the score ``trust`` of each row: the mean where several criticised, that in the hint (`HINT`)
        where a teacher reads one that nobody wrote, NaN where no teacher reads any: there the score counts in full. A
        recalled answer was read when it was fresh."""
        masks = batch.rollouts.masks
        read = set(batch.rollouts.episode[masks["distilled"]].unique().tolist())
        taught = {id(batch.episodes[row]) for row in read if row < len(batch.episodes)}
        values = [self._weigh_critique(e, id(e) in taught) for e in batch.episodes]
        values += [math.nan] * (len(batch.rollouts.task) - len(values))
        trust = torch.tensor(values, device=batch.rollouts.task.device)
        return replace(batch, rollouts=replace(batch.rollouts, scores=batch.rollouts.scores | {SCORE: trust}))

    @torch.no_grad()
    def collect(self, part: Batch, student: TokenLogProbs, others: dict[str, TokenLogProbs]) -> None:
        """Takes in the scored answers of a micro-batch that a teacher re-read. An answer of several rows is one: their
        log-ratios add up, in whichever micro-batches they lie."""
        if "teacher" not in others or not part.episodes:
            return
        # The stand-in of a rank without a teacher view is not in the mask.
        read = part.rollouts.masks["distilled"][others["teacher"].index]
        teacher = others["teacher"].select(read.nonzero()[:, 0])
        gap = teacher.log_probs.detach() - student.log_probs.detach()[teacher.index]
        where = part.rollouts.episode[teacher.index]
        rows = len(part.rollouts.task)
        sums = torch.stack([segments.total(gap.float(), where, rows), segments.count(where, rows).float()])
        totals, tokens = sums.tolist()
        scores = part.rollouts.scores["score"].tolist()
        for row, episode in zip(part.rollouts.episode.unique().tolist(), part.episodes, strict=True):
            if tokens[row] and not math.isnan(scores[row]):
                before = self._read.get(id(episode))
                self._read[id(episode)] = Reading(
                    episode, scores[row], totals[row] + (before.log_ratio if before else 0.0)
                )

    def update(self, taken: bool = True) -> dict[str, float]:
        """Adds what all ranks collected in this step, unless the step was not taken; gives the trust in each annotator
        for the log."""
        for found in gather_objects(self._count()) if taken else ():
            for name, pair in found.items():
                add_counts(self.counts, name, *pair)
        self._read.clear()
        return {f"signals/trust/{name}": self.get_mean(name) for name in sorted(self.counts)}

    def _count(self) -> Counts:
        """What this rank's answers of the step say of each annotator."""
        counts: Counts = {}
        for one in self._read.values():
            accepted, raised = math.exp(min(one.log_ratio, 0.0)), 1 - math.exp(min(-one.log_ratio, 0.0))
            right = one.score >= self.threshold
            for name in list_annotators(one.episode) or (HINT,):
                add_counts(counts, name, accepted * right, (1 - accepted if right else raised))
        return counts


def add_counts(counts: Counts, name: str, right: float, wrong: float) -> None:
    """Adds to what counted for an annotator and against."""
    before = counts.get(name, (0.0, 0.0))
    counts[name] = (before[0] + right, before[1] + wrong)


def is_fresh(episode: Episode) -> bool:
    """Whether an answer is the policy's own, of this step."""
    return not (episode.is_recalled or episode.is_rewrite)


def list_annotators(episode: Episode) -> tuple[str, ...]:
    """Names of those who criticised an episode in words, each once; without a name, the source of the feedback."""
    return tuple(dict.fromkeys(item.annotator or item.source for item in episode.feedback if item.text))
