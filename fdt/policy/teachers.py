"""Teachers: the same network with the critique in its prompt. They read the student's own tokens, without gradient."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fdt.data.batch import Batch, View
from fdt.errors import UserError
from fdt.policy.fsdp import is_sharded, reshard, unshard_root
from fdt.policy.policy import Policy
from objectives import TokenLogProbs


class Teacher(nn.Module, ABC):
    """Log-probs of a view without gradient. ``attach`` is called once, when the policy holds its starting weights."""

    @abstractmethod
    def attach(self, policy: Policy) -> None:
        """Takes what it needs from the policy at its start."""

    @abstractmethod
    def forward(self, policy: Policy, view: View) -> TokenLogProbs:
        """Log-probs of the view's target tokens under the teacher."""

    def update(self, policy: Policy) -> None:
        """Called after every optimiser step."""


class Live(Teacher):
    """The current policy itself, with the critique in its prompt (SDPO without regularised teacher, arXiv 2601.20802
    section 3)."""

    def attach(self, policy: Policy) -> None:
        return None

    @torch.no_grad()
    def forward(self, policy: Policy, view: View) -> TokenLogProbs:
        with disable_dropout(policy):
            return policy.compute_log_probs(view)


class WeightCopyTeacher(Teacher):
    """A second set of the *trainable* weights, put in place while it reads. With LoRA that is a few megabytes."""

    def __init__(self) -> None:
        super().__init__()
        self.copies = nn.ParameterList()

    def attach(self, policy: Policy) -> None:
        copies = [nn.Parameter(p.detach().clone(), requires_grad=False) for p in policy.get_trainable_parameters()]
        self.copies = nn.ParameterList(copies)

    @torch.no_grad()
    def forward(self, policy: Policy, view: View) -> TokenLogProbs:
        with self._swap_weights(policy), disable_dropout(policy):
            scored = policy.compute_log_probs(view)
            sharded = self._find_head(policy) if is_sharded(policy) else None
        weight = self._find_head(policy) if sharded is None else sharded
        return scored if weight is None else replace_head(scored, weight)

    def _find_head(self, policy: Policy) -> Tensor | None:
        # The head is read lazily, after the policy's weights are back: a trained head must come from the copies.
        head = policy.head
        if not head.requires_grad:
            return None
        if not is_sharded(policy):
            for copy, weight in zip(self.copies, policy.get_trainable_parameters(), strict=True):
                if weight is head:
                    return copy.detach()
        return head.detach().clone()

    @contextmanager
    def _swap_weights(self, policy: Policy) -> Iterator[None]:
        if not is_sharded(policy):
            with _exchange_storage(policy.get_trainable_parameters(), list(self.copies)):
                yield
            return
        reshard(policy)
        weights = policy.get_trainable_parameters()  # the shards: what was gathered is gone now
        kept = [p.detach().clone() for p in weights]
        _copy(weights, list(self.copies))
        try:
            yield
        finally:
            reshard(policy)
            _copy(weights, kept)
            unshard_root(policy)


@contextmanager
def _exchange_storage(weights: Sequence[nn.Parameter], copies: Sequence[nn.Parameter]) -> Iterator[None]:
    """Each weight holds its copy's numbers meanwhile, and the copy the weight's: nothing is copied."""

    def exchange() -> None:
        for weight, copy in zip(weights, copies, strict=True):
            held = weight.data
            weight.data = copy.data
            copy.data = held

    exchange()
    try:
        yield
    finally:
        exchange()


class Frozen(WeightCopyTeacher):
    """The policy as it was at the start. Rebuilt from the base on resume, so it is left out of checkpoints."""


class ReferencePolicy(WeightCopyTeacher):
    """The policy as it was last copied; a ``ReferenceKL`` term compares with it (ProRL, arXiv 2505.24864)."""

    def copy_from(self, policy: Policy) -> None:
        """From now on the reference is the policy as it is."""
        reshard(policy)
        _copy(list(self.copies), policy.get_trainable_parameters())


class EMA(WeightCopyTeacher):
    """Exponential moving average of the policy: copy <- (1 - rate) * copy + rate * policy after each optimiser step."""

    def __init__(self, rate: float = 0.05) -> None:
        """
        Args:
            rate: share of the current policy taken in at each step (SDPO: 0.05; 0 would be frozen, 1 live).
        """
        super().__init__()
        if not 0.0 < rate < 1.0:
            raise ValueError(f"EMA: rate must lie between 0 and 1, got {rate}; use Frozen for 0 and Live for 1")
        self.rate = rate

    @torch.no_grad()
    def update(self, policy: Policy) -> None:
        reshard(policy)
        for copy, weight in zip(self.copies, policy.get_trainable_parameters(), strict=True):
            copy.lerp_(weight.detach(), self.rate)


@contextmanager
def disable_dropout(policy: Policy) -> Iterator[None]:
    """A teacher is deterministic, whatever mode the policy is in."""
    training = policy.training
    policy.eval()
    try:
        yield
    finally:
        policy.train(training)


def replace_head(scored: TokenLogProbs, weight: Tensor) -> TokenLogProbs:
    """The same hidden states read through another head."""
    return TokenLogProbs(scored.hidden, weight, scored.targets, scored.index, scored.kernel)


def reindex(scored: TokenLogProbs, index: Tensor) -> TokenLogProbs:
    """The same log-probs, as those of other positions among the step's N tokens."""
    return TokenLogProbs(scored.hidden, scored.weight, scored.targets, index, scored.kernel)


def _copy(into: list[nn.Parameter], source: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for target, value in zip(into, source, strict=True):
            target.copy_(value)


def split_by_hint(scored: TokenLogProbs, part: Batch, needs: frozenset[str] | set[str]) -> dict[str, TokenLogProbs]:
    """
    Args:
        scored: the teacher's view of a micro-batch, all hints in one forward.
        part: the micro-batch.
        needs: names that the objective reads.

    Returns:
        One ``TokenLogProbs`` a name, each indexed by the target tokens that it read.

    Raises:
        UserError: where rows were read under several hints and no term reads the further ones.
    """
    whole = reindex(scored, part.teacher_tokens)
    if part.hint_index is None or not int(part.hint_index.max()):
        return {"teacher": whole}
    number = part.hint_index.repeat_interleave(part.student.counts[part.teacher_rows])
    names = ["teacher", *(f"hint_{n}" for n in range(1, int(number.max()) + 1))]
    if unused := set(names) - needs:
        raise UserError(
            "hints that no term chooses from",
            got=sorted(unused),
            expected="one hint a row",
            key="data.hint",
            remedy="max_hints: 1, or a term objectives.DistillBestHint that names them in `hints`",
        )
    return {name: whole.select((number == n).nonzero()[:, 0]) for n, name in enumerate(names)}
