"""Several hints a row, one teacher: which hint's view is distilled from."""

import torch
from jaxtyping import Int
from torch import Tensor

from objectives import segments
from objectives.losses.token_weights import count_common
from objectives.vocabulary.token_log_probs import TokenLogProbs


def choose_best_hint(
    student: TokenLogProbs, teachers: list[TokenLogProbs], row: Int[Tensor, "N"], rows: int, k: int
) -> Int[Tensor, "rows"]:
    """Per row, which teacher (each one hint) shares most of its top-k supports with the student, summed over the row.

    OpenClaw-RL v2's sequence-optimal choice (arXiv 2603.10165). A row that a teacher did not read counts as -1 for it;
    ties go to the first.
    """
    mine = student.topk(k)[0]
    totals = []
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
            "assemble_teacher: got teachers with different heads, expected one model reading different hints. "
            "Give each model its own Distill term."
        )
    parts = [t.select((choice[row[t.index]] == number).nonzero()[:, 0]) for number, t in enumerate(teachers)]
    order = torch.cat([part.index for part in parts]).argsort()
    hidden, targets, index = (
        torch.cat([getattr(part, name) for part in parts])[order] for name in ("hidden", "targets", "index")
    )
    return TokenLogProbs(hidden, teachers[0].weight, targets, index)
