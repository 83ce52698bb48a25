"""Refuses settings that would do something else here, or that belong to nothing, and names what to write instead."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fdt.cli.run.arguments import find_line, list_config_files, list_flags, load_yaml
from fdt.errors import UserError
from fdt.resources import describe, find_configs_root

INSTEAD = {
    "accumulate_grad_batches": (1, "micro-batches are cut by tokens: set model.tokens_per_microbatch"),
    "gradient_clip_val": (None, "set model.max_grad_norm"),
    "gradient_clip_algorithm": (None, "set model.max_grad_norm"),
}
RENAMED = {
    "model.objective": "model.terms and model.coefficients",
    "model.checkpointing": "model.gradient_checkpointing",
    "model.track_start": "model.log_kl_to_init",
    "model.max_bad_steps": "model.max_nonfinite_steps",
    "data.critic": "data.grader",
    "data.play": "data.limits",
    "data.source.init_args.generations": "data.source.init_args.num_generations",
    "data.source.init_args.epochs_per_rollout": "data.source.init_args.num_iterations",
}
"""Keys of version 0.1 that a config may still hold, and what they are called now; docs/migration.md has them all."""
STACKED = re.compile(r"\bstack on (?P<base>[\w./-]+)")
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


def find_root_cause(fault: BaseException) -> str:
    """The message of the error that started a chain of errors."""
    while fault.__cause__ is not None:
        fault = fault.__cause__
    return str(fault)


def check_configs(paths: Sequence[str]) -> None:
    """
    Args:
        paths: the config files of a command line, in order.

    Raises:
        UserError: where one that is made to be stacked on another comes first, or one holds a key of an older version.
    """
    for place, path in enumerate(paths):
        base = STACKED.search(describe(Path(path)))
        if base is not None and place == 0:  # a user's own config may stand in the base's place
            name = name_config(path)
            raise UserError(
                "this config holds only what it changes of another",
                path=path,
                remedy=f"stack it: fdt fit -c {base['base']} -c {name}",
            )
        content = load_yaml(path)
        for old, new in RENAMED.items():
            if get_nested(content, old) is not None:
                raise UserError(
                    "a key of version 0.1",
                    path=path,
                    key=old,
                    expected=new,
                    remedy="see docs/migration.md, which lists all new names",
                )


def check_coefficients(argv: Sequence[str], arms: Mapping[str, dict[str, Any]] | None) -> None:
    """Before any arm trains, so that the last one is not refused after the others have taken their hours.

    Args:
        argv: the command line, with its config files as paths.
        arms: what each arm that will run overrides; None: the config itself runs.

    Raises:
        UserError: where what runs names the coefficient of a term that it does not have.
    """
    flags = [name.removeprefix("--").split(".")[1:] for name, _ in list_flags(argv) if name.startswith("--model.")]
    if any(keys in (["terms"], ["coefficients"]) for keys in flags):  # whole mappings, which the parser reads later
        return
    added = [
        frozenset(keys[1] for keys in flags if keys[0] == part and len(keys) > 1) for part in ("terms", "coefficients")
    ]
    found, place = Mixture(), None
    for path in list_config_files(argv):
        content = load_yaml(path)
        found = found.lay_over(content, path)
        place = path if "arms" in content else place
    if arms is None:
        found.check(*added)
        return
    for name, overrides in arms.items():
        found.lay_over(overrides, place, ("arms", name)).check(*added)


@dataclass(frozen=True)
class Mixture:
    """The names of terms and of coefficients that configs laid over one another come to; a later mapping replaces an
    earlier one whole. None: not stated, so that the defaults hold."""

    terms: frozenset[str] | None = None
    coefficients: frozenset[str] = frozenset()
    path: str | None = None
    keys: tuple[str, ...] = ()
    """Where the coefficients stand in that file."""

    def lay_over(self, content: dict[str, Any], path: str | None, above: tuple[str, ...] = ()) -> Mixture:
        """This with what a config says in its place."""
        terms, given = (get_nested(content, f"model.{part}") for part in ("terms", "coefficients"))
        found = replace(self, terms=frozenset(terms)) if isinstance(terms, dict) else self
        if isinstance(given, dict):
            found = replace(found, coefficients=frozenset(given), path=path, keys=(*above, "model", "coefficients"))
        return found

    def check(self, terms: frozenset[str], coefficients: frozenset[str]) -> None:
        """Raises `UserError` for a coefficient without a term.

        Args:
            terms: names that the command line adds.
            coefficients: the same of coefficients.
        """
        known = None if self.terms is None else self.terms | terms
        for name in sorted((self.coefficients | coefficients) - (known or self.coefficients | coefficients)):
            keys = (*self.keys, name) if name in self.coefficients else ("model", "coefficients", name)
            line = find_line(self.path, keys) if self.path else None
            raise UserError(
                "a coefficient without its term",
                got=name,
                expected=f"one of {', '.join(sorted(known or ()))}",
                key=".".join(keys),
                path=f"{self.path}, line {line}" if line else self.path,
                remedy="a later config's or an arm's model.terms and model.coefficients replace the earlier ones whole",
            )


def name_config(path: str) -> str:
    """What a config is called on the command line: a shipped one by its name, another by its path."""
    file = Path(path).resolve()
    root = find_configs_root().resolve()
    return file.relative_to(root).with_suffix("").as_posix() if file.is_relative_to(root) else path


def get_nested(content: dict[str, Any], key: str) -> Any:
    """The value under a dotted key; None where there is none."""
    value: Any = content
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value
