"""Log-probs of whole batches without gradient, within the token budget."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fdt.batch import Batch, View
from fdt.microbatch import cut_rows
from fdt.ranks import most
from objectives import Scored


@torch.no_grad()
def log_probs(batch: Batch, score: Callable[[View], Scored], budget: int) -> Tensor:
    """Log-probs ``[N]`` of a batch's target tokens under ``score``; every rank makes the same number of forwards."""
    device = batch.student.tokens.device
    found = torch.zeros(int(batch.student.counts.sum()), device=device)
    chunks = [torch.tensor(rows, device=device) for rows in cut_rows(batch, budget)]
    for rows in chunks:
        found[batch.tokens_of(rows)] = score(batch.student.rows(rows)).log_probs.float()
    for _ in range(most(len(chunks), device) - len(chunks)):
        score(batch.student.rows(torch.zeros(1, dtype=torch.long, device=device)))
    return found
