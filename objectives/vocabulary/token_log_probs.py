"""`TokenLogProbs`: the log-probs of target tokens under one model, with a lazy head."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from objectives.vocabulary.fold import Folded, Part, trace
from objectives.vocabulary.head import LogitsAt, Normaliser


class VocabularyPass(NamedTuple):
    """What a pass over V found: log-normaliser [N], entropy [N], likeliest ids [N, k], and some ids' logits [N, K].

    `entropy` is None for a constant model, until it is asked for.
    """

    log_z: Tensor
    entropy: Tensor | None
    top: Tensor
    ids: Tensor
    logits: Tensor

    def take(self, keep: Tensor) -> "VocabularyPass":
        """The rows at `keep`."""
        top = self.top[keep]
        return VocabularyPass(
            log_z=self.log_z[keep],
            entropy=None if self.entropy is None else self.entropy[keep],
            top=top,
            ids=top if self.ids is self.top else self.ids[keep],
            logits=self.logits[keep],
        )


LogProbKernel = Callable[[Tensor, Tensor, Tensor], Tensor]
"""A fused kernel: hidden [N, D], weight [V, D], targets [N] -> log-prob of each target [N] as the chunked path gives
them, differentiable."""


class TokenLogProbs:
    """N target tokens under one model: hidden states [N, D] before the head, the head's weight [V, D], targets [N].

    `index` [N] says which tokens of the (micro-)batch's `Rollouts` these are; a teacher reads a subset. Everything
    over the vocabulary (`log_probs`, `at`, `topk`, `fold`) is computed when it is asked for, in chunks of rows. Hidden
    states without gradient make a constant: nothing flows into `weight` either, so a teacher may share the student's
    head. A sampling temperature is applied by dividing `hidden` beforehand.

    `kernel`, where given, computes `log_probs` unless a pass over V was made already; all else is the chunked path.
    """

    def __init__(
        self,
        hidden: Float[Tensor, "N D"],
        weight: Float[Tensor, "V D"],
        targets: Int[Tensor, "N"],
        index: Int[Tensor, "N"] | None = None,
        kernel: LogProbKernel | None = None,
    ) -> None:
        self.hidden = hidden
        self.weight = weight if hidden.requires_grad else weight.detach()
        self.targets = targets
        self.index = torch.arange(len(targets), device=targets.device) if index is None else index
        self.kernel = kernel
        self._known: VocabularyPass | None = None
        self._log_probs: Tensor | None = None

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def vocabulary(self) -> int:
        """V."""
        return len(self.weight)

    @property
    def log_probs(self) -> Float[Tensor, "N"]:
        """Log-prob of each target [nats], differentiable."""
        if self._log_probs is None:
            with torch.set_grad_enabled(self.hidden.requires_grad):
                if self.kernel is None or self._known is not None or not len(self):
                    self._log_probs = self.at(self.targets[:, None])[:, 0]
                else:
                    self._log_probs = self.kernel(self.hidden, self.weight, self.targets)
        return self._log_probs

    @property
    def entropy(self) -> Float[Tensor, "N"]:
        """Entropy of each next-token distribution [nats], without gradient."""
        known = self._read_vocabulary()
        if known.entropy is not None:
            return known.entropy
        entropy = self.fold(lambda log_probs: -torch.linalg.vecdot(log_probs.exp(), log_probs))
        self._known = known._replace(entropy=entropy)
        return entropy

    @property
    def nothing(self) -> Float[Tensor, ""]:
        """An exact zero with a graph: its gradient is zero for every parameter, also beside NaN."""
        return (self.hidden[:0].sum() + self.weight[:0].sum()).to(torch.promote_types(self.hidden.dtype, torch.float32))

    def at(self, ids: Int[Tensor, "N K"]) -> Float[Tensor, "N K"]:
        """Log-probs of the listed ids, differentiable."""
        return self._gather(ids, self._read_vocabulary(ids=ids))

    def topk(self, k: int) -> tuple[Int[Tensor, "N k"], Float[Tensor, "N k"]]:
        """The k likeliest ids, best first, and their log-probs (differentiable; the choice of ids is not)."""
        k = min(k, self.vocabulary)
        known = self._read_vocabulary(k)
        ids = known.top if known.top.shape[1] == k else known.top[:, :k]
        return ids, self._gather(ids, known)

    def _gather(self, ids: Tensor, known: VocabularyPass) -> Tensor:
        met = known.logits if known.ids is ids else None
        with torch.set_grad_enabled(self.hidden.requires_grad):
            return LogitsAt.apply(self.hidden, self.weight, ids, met) - known.log_z[:, None]

    def fold(self, f: Callable[..., Tensor], *others: "TokenLogProbs") -> Float[Tensor, "N"]:
        """Apply `f(log_probs [n, V], *other log_probs [n, V]) -> [n]` over chunks of rows, differentiable.

        Each row's value may depend on its own log-probs only. The others are constants and have the same N and V.
        """
        return self.fold_many(lambda *log_probs: (f(*log_probs),), *others)[0]

    def fold_many(self, f: Callable[..., tuple[Tensor, ...]], *others: "TokenLogProbs") -> tuple[Tensor, ...]:
        """`fold` of an `f` that gives further values [n] beside the first; only the first is differentiable."""
        return self.fold_part(trace(f, self.hidden.requires_grad), *others)

    def fold_part(self, part: Part, *others: "TokenLogProbs") -> tuple[Tensor, ...]:
        """`fold_many` of what brings its own gradient (`objectives.vocabulary.closed`)."""
        fixed = tuple((other.hidden.detach(), other.weight.detach()) for other in others)
        with torch.set_grad_enabled(self.hidden.requires_grad):
            return Folded.apply(self.hidden, self.weight, part, fixed)

    def select(self, keep: Int[Tensor, "n"]) -> "TokenLogProbs":
        """The tokens at positions `keep`; what was already computed is sliced. All of them in order are this very
        object, so that what one caller had computed serves the next."""
        if len(keep) == len(self) and torch.equal(keep, torch.arange(len(self), device=keep.device)):
            return self
        with torch.set_grad_enabled(self.hidden.requires_grad):
            part = TokenLogProbs(self.hidden[keep], self.weight, self.targets[keep], self.index[keep], self.kernel)
            if self._known is not None:
                part._known = self._known.take(keep)
            if self._log_probs is not None:
                part._log_probs = self._log_probs[keep]
        return part

    def _read_vocabulary(self, k: int = 0, ids: Tensor | None = None) -> VocabularyPass:
        """What one pass over V found; a second pass is made only for likelier ids than were kept."""
        known = self._known
        if known is None:
            with torch.set_grad_enabled(self.hidden.requires_grad):
                log_z, entropy, top, met = Normaliser.apply(self.hidden, self.weight, k, ids)
            known = VocabularyPass(log_z, entropy, top, top if ids is None else ids, met)
        elif known.top.shape[1] < k:
            _, _, top, met = Normaliser.apply(self.hidden.detach(), self.weight.detach(), k, None)
            known = known._replace(top=top, ids=top, logits=met)
        self._known = known
        return known
