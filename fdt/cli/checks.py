"""Settings of Lightning's that would silently do something else here are refused, with the field to use instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fdt.errors import UserError

INSTEAD = {
    "accumulate_grad_batches": (1, "micro-batches are cut by tokens: set model.tokens_per_microbatch"),
    "gradient_clip_val": (None, "set model.max_grad_norm"),
    "gradient_clip_algorithm": (None, "set model.max_grad_norm"),
}
MIXED_HALF = ("16-mixed", "16-true", "16", 16)


def check_trainer(trainer: Any, model: Any) -> None:
    """
    Raises:
        UserError: for accumulation or clipping by the trainer, half precision with loss scaling, bf16-true with LoRA,
            and inference_mode.
    """
    for name, (default, remedy) in INSTEAD.items():
        if trainer.get(name, default) not in (default, None):
            raise UserError(
                "not used by fdt", got=trainer[name], expected=default, remedy=remedy, key=f"trainer.{name}"
            )
    strategy = str(getattr(trainer.get("strategy"), "strategy_name", trainer.get("strategy")))
    if strategy.startswith(("fsdp", "deepspeed")):
        raise UserError("not supported", got=strategy, expected="ddp or fdt.policy.fsdp.FSDP2", key="trainer.strategy")
    precision = trainer.get("precision")
    if precision in MIXED_HALF:
        raise UserError(
            "float16 needs loss scaling, which manual optimisation does not do",
            got=precision,
            expected="32-true or bf16-mixed",
            key="trainer.precision",
        )
    if precision == "bf16-true":
        raise UserError(
            "bf16-true casts adapters and master weights too, and small updates round away",
            got=precision,
            expected="32-true or bf16-mixed",
            remedy="for a bfloat16 base set model.dtype bfloat16 and keep trainer.precision 32-true",
            key="trainer.precision",
        )
    if trainer.get("inference_mode"):
        raise UserError("rollouts run under no_grad", got=True, expected=False, key="trainer.inference_mode")


def check_checkpoint(path: Any) -> None:
    """
    Raises:
        UserError: where a checkpoint is named by its path and is not there.
    """
    if path and path not in ("last", "best", "hpc") and not Path(path).exists():
        raise UserError("no such checkpoint", got=str(path), expected="a file, or last", key="ckpt_path")


def find_root_cause(fault: BaseException) -> str:
    """The message of the error that started a chain of errors."""
    while fault.__cause__ is not None:
        fault = fault.__cause__
    return str(fault)
