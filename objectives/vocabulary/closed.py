"""Divergences over the whole vocabulary with their gradients in closed form, for `TokenLogProbs.fold_part`.

What autograd does in eight temporaries of a chunk's size is done here in three, in place. A form takes logits that it
may overwrite and gives what `objectives.vocabulary.fold.Part` asks for; a test holds each against autograd.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from objectives.divergence import LOG_FLOOR, forward_kl, reverse_kl
from objectives.vocabulary.fold import Part, Pull


def _normalise(logits: Tensor, spare: Tensor) -> Tensor:
    """Logits [n, V] become log-probs in place; gives the normalised probabilities, held in `spare`."""
    logits.sub_(logits.amax(-1, keepdim=True))
    mass = torch.exp(logits, out=spare)
    z = mass.sum(-1, keepdim=True)
    logits.sub_(z.log())
    return mass.div_(z)


def _normalise_teacher(teacher: Tensor, spare: Tensor) -> tuple[Tensor, Tensor]:
    """(probabilities [n, V] held in `spare`, which rows were clamped [n]); `teacher` becomes its clamped log-probs."""
    mass = _normalise(teacher, spare)
    low = teacher.amin(-1) < LOG_FLOOR
    if low.any():
        teacher.clamp_(min=LOG_FLOOR)
        torch.exp(teacher, out=mass)
    return mass, low


def _scale(grad: Tensor) -> Pull:
    """The pull-back of a gradient that is known already."""
    return lambda above: grad if above is None else grad.mul_(above[:, None])


def compute_reverse_kl(student: Tensor, teacher: Tensor) -> tuple[tuple[Tensor, Tensor], Pull]:
    """KL(S || T) and whether the teacher was clamped, each [n]; d/dlogit = S (log S - log T - KL)."""
    spare = torch.empty_like(teacher)
    _, low = _normalise_teacher(teacher, spare)
    own = _normalise(student, spare)
    gap = student.sub_(teacher)
    value = torch.linalg.vecdot(own, gap)
    return (value, low), _scale(gap.sub_(value[:, None]).mul_(own))


def compute_forward_kl(student: Tensor, teacher: Tensor) -> tuple[tuple[Tensor, Tensor], Pull]:
    """KL(T || S) and whether the teacher was clamped, each [n]; d/dlogit = S (sum T) - T."""
    target, low = _normalise_teacher(teacher, torch.empty_like(teacher))
    own = _normalise(student, torch.empty_like(student))
    value = torch.linalg.vecdot(target, teacher.sub_(student))
    return (value, low), _scale(own.mul_(target.sum(-1, keepdim=True)).sub_(target))


CLOSED: dict[Callable[[Tensor, Tensor], Tensor], Part] = {
    reverse_kl: compute_reverse_kl,
    forward_kl: compute_forward_kl,
}
"""Closed form of a divergence, where there is one."""
