"""Losses from feedback in words: distillation from a teacher that read a hint, and imitation of corrected answers."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, cast

import torch
from torch import Tensor

from objectives.divergence import (
    LOG_RATIO_BOUND,
    coarsen,
    compute_tail,
    is_clamped,
    renormalise,
    reverse_kl,
    sum_unlisted,
)
from objectives.losses.hints import assemble_teacher, choose_best_hint
from objectives.losses.term import Term, align_models, average_weighted, find_weighted, place_signal
from objectives.losses.token_weights import TokenWeight, apply_weight
from objectives.returns import check_shape
from objectives.types import Loss, Rollouts
from objectives.vocabulary.closed import CLOSED
from objectives.vocabulary.token_log_probs import TokenLogProbs

SURE = -8.0
"""Log-prob of a tail below which 1 - sum of the listed has lost its digits in float32: exp(-8) is 2800 roundings."""


@dataclass(frozen=True)
class Distill(Term):
    """Divergence between student and teacher on the student's own tokens, over the whole vocabulary or a top-k support.

    The support is chosen without gradient. Without the tail both sides are renormalised on the support (SDPO, arXiv
    2601.20802; OpenClaw-RL, arXiv 2603.10165).
    """

    mask: str = "distilled"
    """Which mask of the rollouts selects this term's tokens."""
    divergence: Callable = reverse_kl
    """reverse_kl, forward_kl, js, or any function of (student, teacher) log-probs [n, K] -> [n]."""
    k: int | None = 64
    """Outcomes listed per token; null: the whole vocabulary."""
    support: Literal["teacher", "student"] = "teacher"
    """Whose likeliest k outcomes are listed."""
    tail: bool = True
    """Merge the unlisted outcomes into one more; else renormalise on the listed."""
    teacher: str = "teacher"
    """Name of the model that teaches."""
    importance: float | None = None
    """Weighs each token with its ratio pi / old, without gradient and at most this; null: no weighing."""
    token_weight: TokenWeight | None = None
    """A factor on each token, known once both models have read it, such as TeacherConfidence; null: 1."""

    def __post_init__(self) -> None:
        least = 1 if self.tail else 2
        if self.k is not None and self.k < least:
            raise ValueError(
                f"Distill.k: got {self.k} with tail={self.tail}, expected at least {least} or null. "
                "One renormalised outcome has probability 1 under both models: the loss would be 0."
            )

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({self.teacher})

    def __call__(self, student: TokenLogProbs, others: dict[str, TokenLogProbs], rollouts: Rollouts, name: str) -> Loss:
        """Metrics: teacher/log_ratio (log T - log S of the sampled token), teacher/tail_mass, teacher/clamped."""
        pair = align_models(student, self.choose_teacher(student, others, rollouts), rollouts, name, self.teacher)
        if pair is None:
            zero = student.nothing
            return Loss(
                zero, dict.fromkeys(("teacher/log_ratio", "teacher/tail_mass", "teacher/clamped"), zero.detach())
            )
        mine, theirs = pair
        losses, mass, low = (
            self.compute_on_vocabulary(mine, theirs)
            if self.k is None
            else self.compute_on_support(mine, theirs, self.k)
        )
        losses = check_shape(losses, mine.targets.shape, self.divergence, "divergences")
        losses = apply_weight(losses, self.weigh_tokens(mine, theirs, rollouts))
        log_ratio = theirs.log_probs - mine.log_probs.detach()
        mean = {"teacher/log_ratio": log_ratio, "teacher/tail_mass": mass, "teacher/clamped": low.to(mass.dtype)}
        metrics = {key: average_weighted(value, rollouts, name, mine.index) for key, value in mean.items()}
        signal = place_signal(log_ratio, rollouts, name, mine.index)
        return Loss(average_weighted(losses, rollouts, name, mine.index), metrics, signal)

    def choose_teacher(
        self, student: TokenLogProbs, others: dict[str, TokenLogProbs], rollouts: Rollouts
    ) -> dict[str, TokenLogProbs]:
        """The other models, with the one named `teacher` to distill from."""
        return others

    def weigh_tokens(self, mine: TokenLogProbs, theirs: TokenLogProbs, rollouts: Rollouts) -> Tensor:
        """Importance times the token weight [n], without gradient."""
        factor = torch.ones_like(mine.log_probs.detach())
        if self.importance is not None and rollouts.old_log_probs is not None:
            ratio = (mine.log_probs.detach() - rollouts.old_log_probs[mine.index]).clamp(max=LOG_RATIO_BOUND).exp()
            factor = ratio.clamp(max=self.importance).to(factor.dtype)
        if self.token_weight is None:
            return factor
        found = self.token_weight(mine, theirs, rollouts.take(mine.index))
        return factor * check_shape(found, factor.shape, self.token_weight, "factors").to(factor.dtype)

    def compute_on_support(self, mine: TokenLogProbs, theirs: TokenLogProbs, k: int) -> tuple[Tensor, Tensor, Tensor]:
        """Losses, the teacher's mass outside the support, and whether it was clamped, each [n], on a top-k support."""
        # A model's own top-k comes with its normaliser in one pass over V.
        if self.support == "teacher":
            ids, teacher = theirs.topk(k)
            student = mine.at(ids)
        else:
            ids, student = mine.topk(k)
            teacher = theirs.at(ids)
        mass = (1 - teacher.exp().sum(-1)).clamp(min=0)
        low = is_clamped(teacher)
        if ids.shape[1] == mine.vocabulary:
            return self.divergence(student, teacher), mass, low
        if not self.tail:
            return self.divergence(renormalise(student), renormalise(teacher)), mass, low
        tails = self.correct_tail(compute_tail(student), compute_tail(teacher), mine, theirs)
        return self.divergence(coarsen(student, tails), coarsen(teacher)), mass, low

    def correct_tail(self, student: Tensor, teacher: Tensor, mine: TokenLogProbs, theirs: TokenLogProbs) -> Tensor:
        """The student's log-probs [n] of what is not listed, summed over the unlisted themselves where 1 - sum of the
        listed is rounding, and the teacher has mass there: there a student is surely wrong, and only the unlisted
        logits know by how much."""
        keep = ((student < SURE) & (teacher > SURE)).nonzero()[:, 0]
        if not len(keep):
            return student
        k = cast(int, self.k)
        if self.support == "teacher":
            exact = mine.select(keep).fold(lambda own, other: sum_unlisted(own, other, k), theirs.select(keep))
        else:
            exact = mine.select(keep).fold(lambda own: sum_unlisted(own, own, k))
        return student.index_copy(0, keep, exact.to(student.dtype))

    def compute_on_vocabulary(self, mine: TokenLogProbs, theirs: TokenLogProbs) -> tuple[Tensor, Tensor, Tensor]:
        """The same over the whole vocabulary, folded over chunks of tokens."""

        def both(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
            return self.divergence(student, teacher), is_clamped(teacher)

        closed = CLOSED.get(self.divergence)
        losses, low = mine.fold_many(both, theirs) if closed is None else mine.fold_part(closed, theirs)
        return losses, torch.zeros_like(losses.detach()), low


@dataclass(frozen=True)
class DistillBestHint(Distill):
    """`Distill` from whichever hint fits each row: the one whose top-k supports overlap most with the student's."""

    hints: list[str] = field(default_factory=list)
    """Names of further models beside `teacher`, each the same model under another hint."""
    overlap: int = 4
    """Outcomes compared per token."""

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({self.teacher, *self.hints})

    def choose_teacher(
        self, student: TokenLogProbs, others: dict[str, TokenLogProbs], rollouts: Rollouts
    ) -> dict[str, TokenLogProbs]:
        teachers = [others[name] for name in (self.teacher, *self.hints) if name in others and len(others[name])]
        if not teachers:
            return others
        choice = choose_best_hint(student, teachers, rollouts.episode, len(rollouts.task), self.overlap)
        return others | {self.teacher: assemble_teacher(teachers, choice, rollouts.episode)}


@dataclass(frozen=True)
class KLAnchor(Distill):
    """KL(pi || start) over the whole vocabulary on prompts of which no answer of the step is criticised: what critiques
    change on some prompts must not spill over onto the others (staying near the start where feedback does not apply:
    C3PO, arXiv 2402.10893).

    An answer without a critique beside others with one is no such place: who speaks of faults alone found none in it.
    """

    k: int | None = None
    """Outcomes listed per token; null: the whole vocabulary."""
    teacher: str = "reference"
    """Name of the model that it stays near: the policy at its start, unless a reference is reset."""

    @property
    def masks(self) -> frozenset[str]:
        return frozenset({"distilled", "imitated", "off_policy", "recalled"})

    def get_mask(self, rollouts: Rollouts) -> Tensor:
        """The policy's own fresh tokens, scored or not, of prompts of which no teacher re-read an answer."""
        other = torch.stack([rollouts.masks[name] for name in self.masks if name in rollouts.masks]).any(0)
        taught = rollouts.taught_prompts
        if taught is None:
            read = rollouts.task[rollouts.episode[rollouts.masks["distilled"]]]
            taught = torch.isin(rollouts.task, read)
        return ~other & ~taught[rollouts.episode]


@dataclass(frozen=True)
class Imitate(Term):
    """-log pi of the imitated tokens: cross-entropy on revisions, with the weights of their rows."""

    mask: str = "imitated"
    """Which mask of the rollouts selects this term's tokens."""

    @property
    def reads_distribution(self) -> bool:
        return False

    def __call__(self, student: TokenLogProbs, others: dict[str, TokenLogProbs], rollouts: Rollouts, name: str) -> Loss:
        rows = find_weighted(student, rollouts, name)
        if not len(rows):
            return Loss(student.nothing)
        signal = place_signal(torch.ones_like(student.log_probs[rows]), rollouts, name, rows)
        return Loss(average_weighted(-student.log_probs, rollouts, name), signal=signal)
