"""Which samples made a step's loss or gradient non-finite."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from fdt.distributed import gather_objects, reduce_max_count
from fdt.errors import UserError
from fdt.metrics.step import StepMetrics

SHOWN = 20
"""Samples that a message names."""


def has_finite_loss(metrics: StepMetrics, device: Any) -> bool:
    """Whether the step's loss is finite on every rank; every rank must call."""
    losses = [loss for _, loss in metrics.losses]
    own = not losses or not _is_broken(torch.stack(losses))  # one wait for the device, not one each
    return not reduce_max_count(int(not own), device)


def report_nonfinite(metrics: StepMetrics, step: int, in_a_row: int, most: int) -> None:
    """Warns of a step that was not taken; every rank must call.

    Raises:
        UserError: where ``most`` steps in a row were not.
    """
    what = f"the step after step {step} changed no weight: {describe_nonfinite(metrics)}"
    if in_a_row >= most:
        what = f"{in_a_row} steps in a row were not finite; {what}"
        raise UserError(what, remedy="look at these samples, or lower the learning rate")
    rank_zero_warn(what)


def describe_nonfinite(metrics: StepMetrics) -> str:
    """Names the samples of a step that was not taken, over all ranks; every rank must call.

    Those of rows with a non-finite log-prob or signal; else those of micro-batches with a non-finite loss; else, where
    the gradient alone is not finite, all of the step.
    """
    parts = gather_objects(
        (_name_rows(metrics), _name_parts(metrics), [episode.id for episode in metrics.batch.episodes])
    )
    for place, what in enumerate(("log-probs", "loss", "gradient")):
        found = [(rank, name) for rank, part in enumerate(parts) for name in dict.fromkeys(part[place])]
        if found:
            shown = ", ".join(name if len(parts) == 1 else f"{name} (rank {rank})" for rank, name in found[:SHOWN])
            more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
            return f"its {what} is not finite; samples: {shown}{more}"
    return "its gradient is not finite, and it has no samples"


def _name_rows(metrics: StepMetrics) -> list[str]:
    names = [episode.id for episode in metrics.batch.episodes]
    found = []
    for row, values in sorted(metrics.group_by_row().items()):
        checked = [value for key, value in values.items() if key == "logp" or key.startswith("signal/")]
        if row < len(names) and any(_is_broken(value) for value in checked):
            found.append(names[row])
    return found


def _name_parts(metrics: StepMetrics) -> list[str]:
    names = [episode.id for episode in metrics.batch.episodes]
    rows: set[int] = set()
    for own, loss in metrics.losses:
        if _is_broken(loss):
            rows |= set(own.unique().tolist())
    return [names[row] for row in sorted(rows) if row < len(names)]


def _is_broken(values: Tensor) -> bool:
    return not bool(torch.isfinite(values).all())
