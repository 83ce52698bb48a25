"""Takes two optimiser steps on fixed rows, for several configurations, and writes each gradient before clipping.

Started by ``test_distributed.py``, once alone, once as two ranks and once as four: ``python -m tests.helpers.rank_steps
OUT TIED UNTIED``.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lightning import LightningDataModule, Trainer
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy

from fdt.data.batch import Batch
from fdt.data.collate import Collator
from fdt.learner import Learner
from fdt.metrics.step import StepMetrics
from fdt.policy.gradients import TermGradients
from fdt.policy.lora import LoRA
from fdt.policy.optimizers import SignalAdamW
from fdt.policy.teachers import EMA, Frozen, Live
from feedback.hints import CritiqueHint
from objectives import Distill, Imitate, PolicyGradient
from objectives.reductions import SequenceMean
from tests.helpers.batches import episodes
from tests.helpers.tiny import tokenizer


@dataclass(frozen=True)
class Case:
    """One configuration."""

    tied: bool
    """Whether embedding and head are one weight."""
    adapters: bool
    teacher: Any
    replayed: bool = False
    """Rows from a file, whose sampler was the starting policy."""
    apart: bool = False
    """Gradients of each term apart."""
    dtype: str = "float32"


CASES = {
    "adapters tied frozen": Case(True, True, Frozen),
    "adapters untied ema": Case(False, True, EMA, replayed=True),
    "full tied ema": Case(True, False, EMA),
    "full untied live": Case(False, False, Live, replayed=True),
    "adapters tied frozen apart": Case(True, True, Frozen, apart=True),
    "full untied live apart": Case(False, False, Live, replayed=True, apart=True),
    "adapters over bfloat16": Case(True, True, EMA, dtype="bfloat16"),
}
ON_FOUR = ("adapters untied ema", "full tied ema", "adapters over bfloat16")
STRATEGIES = ("ddp", "fsdp2")
RANK, WORLD = int(os.environ.get("LOCAL_RANK", 0)), int(os.environ.get("RANKS", 1))


class Dumping(Learner):
    """Keeps the whole gradient of each step, before clipping, and the step's loss."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.kept: list[dict[str, Any]] = []

    def _step(self) -> tuple[float, bool]:
        whole = [getattr(p.grad, "full_tensor", lambda g=p.grad: g)() for p in self.policy.get_trainable_parameters()]
        self.kept.append({"gradient": torch.cat([g.flatten() for g in whole]).clone()})
        norm, finite = super()._step()
        self.kept[-1] |= {"norm": norm, "finite": finite}
        return norm, finite

    def _step_apart(self, apart: TermGradients, metrics: StepMetrics) -> tuple[float, bool]:
        norm, finite = super()._step_apart(apart, metrics)
        whole = [getattr(g, "full_tensor", lambda g=g: g)() for found in apart.sums.values() for g in found]
        self.kept.append({"gradient": torch.cat([g.flatten() for g in whole]), "norm": norm, "finite": finite})
        return norm, finite

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        found = super().training_step(batch, batch_idx)
        self.kept[-1] |= {
            name: found["metrics"].values[f"train/{name}"]
            for name in ("loss", "loss/policy", "loss/distill", "loss/imitate", "teacher/log_ratio", "kl_init")
        }
        return found


class Fixed(LightningDataModule):
    """Two steps of fixed rows, dealt out in turn: ranks with odd numbers alone have criticised ones."""

    def __init__(self, replayed: bool) -> None:
        super().__init__()
        self.behaviour = "start" if replayed else "policy"

    def train_dataloader(self) -> Fixed:
        return self

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[Batch]:
        return iter([self.step(number) for number in range(len(self))])

    def step(self, number: int) -> Batch:
        rows = episodes(tasks=3)[number:]
        rows = rows if number == 0 else rows[1:]  # an odd start would hand the criticised rows to the first rank
        advantages = torch.tensor([1.0 if e.score else -1.0 for e in rows]) * torch.linspace(0.5, 1.5, len(rows))
        made = Collator(tokenizer(), CritiqueHint())(rows[RANK::WORLD], advantages[RANK::WORLD])
        assert WORLD == 1 or (made.teacher is None) == (RANK % 2 == 0)
        return replace(made, behaviour=self.behaviour)


def sgd(params: Any) -> torch.optim.Optimizer:
    """Plain descent: an adaptive first step would blow rounding up to the size of the gradient."""
    return torch.optim.SGD(params, lr=0.05)


def still(params: Any) -> torch.optim.Optimizer:
    """Moments for each term, and no step, for the same reason."""
    return SignalAdamW(params, lr=0.0)


class Shift(torch.optim.SGD):
    """The same small step on every rank, whatever the gradient.

    Over a bfloat16 base adapters are rounded before they multiply: weights that differ in the last bit of float32, as
    sums in another order leave them, then differ in the last of eight bits, and the next gradient by some thousandths.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """Adds a hundredth to each weight."""
        for group in self.param_groups:
            for weight in group["params"]:
                weight.add_(0.01)


def shift(params: Any) -> torch.optim.Optimizer:
    """Steps that all ranks share to the bit."""
    return Shift(params)


def run(case: str, strategy: str, models: dict[bool, str]) -> list[dict[str, Any]]:
    given = CASES[case]
    terms = {
        "policy": PolicyGradient(truncate=2.0, reduction=SequenceMean()),
        "distill": Distill(k=16),
        "imitate": Imitate(),
    }
    learner = Dumping(
        terms,
        {"imitate": 0.5},
        models[given.tied],
        LoRA(rank=4) if given.adapters else None,
        given.dtype,
        teacher=given.teacher(),
        optimizer=still if given.apart else sgd if given.dtype == "float32" else shift,
        max_grad_norm=1e9,
        # In bfloat16 a row's last bits depend on the rows read with it; one at a time they are the same on any rank.
        tokens_per_microbatch=150 if given.dtype == "float32" else 1,
    )
    strategies = {
        "alone": "auto",
        "ddp": DDPStrategy(process_group_backend="gloo"),
        "fsdp2": ModelParallelStrategy(data_parallel_size=WORLD, tensor_parallel_size=1, process_group_backend="gloo"),
    }
    trainer = Trainer(
        accelerator="cpu",
        devices=WORLD,
        strategy=strategies[strategy],
        max_epochs=1,
        plugins=[LightningEnvironment()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        inference_mode=False,
    )
    trainer.fit(learner, datamodule=Fixed(given.replayed))
    return learner.kept


def main(out: str, tied: str, untied: str) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for case in ON_FOUR if WORLD == 4 else CASES:
        for strategy in STRATEGIES if WORLD > 1 else ("alone",):
            kept = run(case, strategy, {True: tied, False: untied})
            if RANK == 0:
                torch.save(kept, Path(out) / f"{case} {strategy} {WORLD}.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])
