"""How much to heed a teacher on each token once both have scored it: factors on a distillation loss."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from objectives import segments
from objectives.vocabulary.token_log_probs import TokenLogProbs


class Heed(ABC):
    """Called with student and teacher on the same n tokens; gives a factor [n]. The denominator stays as it is."""

    @abstractmethod
    def __call__(self, student: TokenLogProbs, teacher: TokenLogProbs) -> Float[Tensor, "n"]: ...


@dataclass(frozen=True)
class Certainty(Heed):
    """exp(-beta H(T)), with the teacher's entropy in nats: heeds a certain teacher (SRPO, arXiv 2604.02288).

    The weights are not normalised over tokens; the paper's own normalisation is not known to us.
    """

    beta: float = 1.0
    """How fast heed falls with entropy."""

    def __call__(self, student: TokenLogProbs, teacher: TokenLogProbs) -> Float[Tensor, "n"]:
        return (-self.beta * teacher.entropy).exp()


@dataclass(frozen=True)
class Overlap(Heed):
    """1 where student and teacher share at least `least` of their k likeliest outcomes, else 0."""

    k: int = 8
    """Outcomes compared."""
    least: float = 0.25
    """Share of them that must be common."""

    def __call__(self, student: TokenLogProbs, teacher: TokenLogProbs) -> Float[Tensor, "n"]:
        shared = count_common(student.topk(self.k)[0], teacher.topk(self.k)[0])
        return (shared >= self.least * self.k).to(teacher.entropy.dtype)


def count_common(mine: Int[Tensor, "n k"], theirs: Int[Tensor, "n k"]) -> Int[Tensor, "n"]:
    """How many outcomes two supports share."""
    return (mine[:, :, None] == theirs[:, None]).sum((1, 2))


def choose_best_hint(
    student: TokenLogProbs, teachers: list[TokenLogProbs], row: Int[Tensor, "N"], rows: int, k: int
) -> Int[Tensor, "rows"]:
    """Per row, which teacher (each one hint) shares most of its top-k supports with the student, summed over the row.

    OpenClaw-RL v2's sequence-optimal choice (arXiv 2603.10165). A row that a teacher did not score counts as -1 for it;
    ties go to the first.
    """
    mine, totals = student.topk(k)[0], []
    for teacher in teachers:
        shared = count_common(mine[teacher.index], teacher.topk(k)[0]).float()
        scored = segments.count(row[teacher.index], rows) > 0
        totals.append(segments.total(shared, row[teacher.index], rows).where(scored, -1.0))
    return torch.stack(totals).argmax(0)


def assemble_teacher(
    teachers: list[TokenLogProbs], choice: Int[Tensor, "rows"], row: Int[Tensor, "N"]
) -> TokenLogProbs:
    """One teacher made of each row's chosen one; all must share one head."""
    if any(teacher.weight.data_ptr() != teachers[0].weight.data_ptr() for teacher in teachers):
        raise ValueError(
            "assemble: got teachers with different heads, expected one model reading different hints. "
            "Give each model its own Distill term."
        )
    parts = [t.select((choice[row[t.index]] == number).nonzero()[:, 0]) for number, t in enumerate(teachers)]
    order = torch.cat([part.index for part in parts]).argsort()
    joined = [torch.cat([getattr(part, name) for part in parts])[order] for name in ("hidden", "targets", "index")]
    return TokenLogProbs(joined[0], teachers[0].weight, joined[1], joined[2])
