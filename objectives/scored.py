"""`Scored`: what one model thinks of the target tokens, with a lazy head."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from objectives.head import Folded, LogitsAt, Normaliser


class Scored:
    """N target tokens under one model: hidden states [N, D] before the head, the head's weight [V, D], targets [N].

    `index` [N] says which tokens of the (micro-)batch's `Rollouts` these are; a teacher scores a subset. Everything
    over the vocabulary is asked for (`log_probs`, `at`, `topk`, `fold`) and computed in chunks of rows. Hidden states
    without gradient make a constant: nothing flows into `weight` either, so a teacher may share the student's head.
    A sampling temperature is applied by dividing `hidden` beforehand.
    """

    def __init__(
        self,
        hidden: Float[Tensor, "N D"],
        weight: Float[Tensor, "V D"],
        targets: Int[Tensor, "N"],
        index: Int[Tensor, "N"] | None = None,
    ) -> None:
        self.hidden = hidden
        self.weight = weight if hidden.requires_grad else weight.detach()
        self.targets = targets
        self.index = torch.arange(len(targets), device=targets.device) if index is None else index
        self._normaliser: tuple[Tensor, Tensor, Tensor] | None = None
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
                self._log_probs = self.at(self.targets[:, None])[:, 0]
        return self._log_probs

    @property
    def entropy(self) -> Float[Tensor, "N"]:
        """Entropy of each next-token distribution [nats], without gradient."""
        return self._scan()[1]

    @property
    def nothing(self) -> Float[Tensor, ""]:
        """An exact zero that hangs on the graph: its gradient is zero everywhere, also beside NaN."""
        return (self.hidden[:0].sum() + self.weight[:0].sum()).to(torch.promote_types(self.hidden.dtype, torch.float32))

    def at(self, ids: Int[Tensor, "N K"]) -> Float[Tensor, "N K"]:
        """Log-probs of the listed ids, differentiable."""
        log_z = self._scan()[0]
        with torch.set_grad_enabled(self.hidden.requires_grad):
            return LogitsAt.apply(self.hidden, self.weight, ids) - log_z[:, None]

    def topk(self, k: int) -> tuple[Int[Tensor, "N k"], Float[Tensor, "N k"]]:
        """The k likeliest ids, best first, and their log-probs (differentiable; the choice of ids is not)."""
        ids = self._scan(min(k, self.vocabulary))[2][:, :k]
        return ids, self.at(ids)

    def fold(self, f: Callable[..., Tensor], *others: "Scored") -> Float[Tensor, "N"]:
        """Apply `f(log_probs [n, V], *other log_probs [n, V]) -> [n]` over chunks of rows, differentiable.

        Each row's value may depend on its own log-probs only. The others are constants and have the same N and V.
        """
        return self.fold_many(lambda *log_probs: (f(*log_probs),), *others)[0]

    def fold_many(self, f: Callable[..., tuple[Tensor, ...]], *others: "Scored") -> tuple[Tensor, ...]:
        """`fold` of an `f` that gives further values [n] beside the first; only the first is differentiable."""

        fixed = tuple((other.hidden.detach(), other.weight.detach()) for other in others)
        with torch.set_grad_enabled(self.hidden.requires_grad):
            return Folded.apply(self.hidden, self.weight, f, fixed)

    def select(self, keep: Int[Tensor, "n"]) -> "Scored":
        """The tokens at positions `keep`; what was already computed is sliced, not computed again."""
        with torch.set_grad_enabled(self.hidden.requires_grad):
            part = Scored(self.hidden[keep], self.weight, self.targets[keep], self.index[keep])
            if self._normaliser is not None:
                part._normaliser = tuple(value[keep] for value in self._normaliser)
            if self._log_probs is not None:
                part._log_probs = self._log_probs[keep]
        return part

    def _scan(self, k: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """(log-normaliser [N], entropy [N], ids [N, >= k]), computed once."""
        known = self._normaliser
        if known is None:
            with torch.set_grad_enabled(self.hidden.requires_grad):
                self._normaliser = Normaliser.apply(self.hidden, self.weight, k)
        elif known[2].shape[1] < k:
            with torch.no_grad():
                self._normaliser = (known[0], known[1], Normaliser.apply(self.hidden, self.weight, k)[2])
        return self._normaliser
