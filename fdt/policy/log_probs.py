"""Log-probs of whole batches without gradient, within the token budget, and those that gates read beforehand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from fdt.data.batch import Batch, View
from fdt.data.microbatch import split_rows
from fdt.data.packing import lay_out
from fdt.distributed import reduce_max_count
from fdt.errors import UserError
from fdt.policy.policy import Policy
from fdt.policy.teachers import Teacher, disable_dropout
from objectives import Term, TokenLogProbs


@torch.no_grad()
def compute_batch_log_probs(
    batch: Batch, compute: Callable[[View], TokenLogProbs], budget: int, policy: Policy
) -> Tensor:
    """Log-probs ``[N]`` of a batch's target tokens by ``compute``, where the batch lies; every rank makes the same
    number of forwards.

    Args:
        batch: its student view is read.
        compute: log-probs of a view on the policy's device.
        budget: most tokens of one forward.
        policy: says where it reads and whether it packs.
    """

    def read(rows: Tensor) -> Tensor:
        part = batch.student.select_rows(rows)
        part = replace(part, layout=lay_out(part, policy.packs)).to(policy.device)
        return compute(part).log_probs.float()

    chunks = [torch.tensor(rows) for rows in split_rows(replace(batch, teacher=None), budget, policy.packs)]
    found = [read(rows) for rows in chunks]
    for _ in range(reduce_max_count(len(chunks), policy.device) - len(chunks)):
        read(torch.zeros(1, dtype=torch.long))
    index = torch.cat([batch.index_tokens(rows) for rows in chunks])
    values = torch.cat(found).to(batch.student.tokens.device)
    return torch.zeros_like(values).index_copy(0, index.to(values.device), values)


def add_old_log_probs(batch: Batch, reads: frozenset[str], policy: Policy, start: Teacher, budget: int) -> Batch:
    """The batch with the log-probs of what sampled it, policy or start, where a gate ``reads`` them before the forward.

    Raises:
        UserError: where a gate reads the engine's log-probs and no sampled token has one, or a term the top-k tokens of
            before other updates.
    """
    rollouts = batch.rollouts
    sampled = rollouts.masks["sampled"]
    known = rollouts.engine_log_probs is not None and not rollouts.engine_log_probs[sampled].isnan().all()
    if "engine_log_probs" in reads and sampled.any() and not known:
        raise UserError(
            "a gate weighs trainer against engine, and no answer has the engine's log-probs",
            key="model.terms",
            expected="answers of an engine that returns them (data.source OnPolicy)",
            remedy="remove TruncatedIS, IcePop or SequenceMask",
        )
    if "top_k_ids" in reads and rollouts.old_log_probs is not None:
        raise UserError(
            "the top-k tokens are not kept from one update to the next",
            key="data.source",
            got="several updates",
            expected="updates_per_rollout 1 and num_iterations 1 with TopKTeacherAdvantage",
        )
    if "old_log_probs" not in reads or rollouts.old_log_probs is not None:
        return batch
    compute = policy.compute_log_probs if batch.behaviour == "policy" else partial(start, policy)
    with disable_dropout(policy):
        found = compute_batch_log_probs(batch, compute, budget, policy)
    return replace(batch, rollouts=replace(rollouts, old_log_probs=found))


def uses_ratio(term: Term) -> bool:
    """Whether a term compares the policy with what sampled the answers."""
    return term.mask == "sampled" or bool(getattr(term, "importance", None))
