"""What a run's config says about its size; read as YAML, so that no trainer, card or weight is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fdt.cli.run.arguments import list_config_files, list_flags, load_yaml, read_value
from fdt.errors import UserError


@dataclass(frozen=True)
class RunSettings:
    """The settings that decide about memory and time."""

    base: str
    lora: dict[str, Any] | None
    dtype: str
    precision: str
    sharded: bool
    ranks: int
    gradient_checkpointing: bool
    tokens_per_microbatch: int
    teacher: str
    """Class of the teacher: Frozen, EMA or Live."""
    optimizer: str
    """Class of the optimiser."""
    terms: int
    """Loss terms."""
    reads_start: bool
    """Whether the starting policy reads each answer."""
    on_policy: bool
    rows: int
    """Answers of a step, over all ranks."""
    prompts: int
    """Prompts of a step."""
    answer_tokens: int
    """Most tokens of an answer."""
    engine: str
    engine_share: float
    """Share of a card's memory that vLLM takes."""
    overlaps: bool
    """Whether rollouts are made while the policy learns."""


def read_settings(argv: Sequence[str]) -> RunSettings:
    """
    Args:
        argv: config files and options, as `fdt fit` takes them.

    Raises:
        UserError: where a setting is missing or of another type.
    """
    config = merge_config(argv)
    model = _get(config, "model")
    trainer = _get(config, "trainer")
    data = _get(config, "data")
    source, source_args = read_plug(data.get("source"), "Replay")
    engine, engine_args = read_plug(data.get("engine"), "HuggingFace")
    strategy, _ = read_plug(trainer.get("strategy"), "auto")
    lora = model.get("lora", {})
    prompts = int(source_args.get("prompts_per_rollout", 4))
    generations = int(source_args.get("num_generations", 4))
    updates = int(source_args.get("updates_per_rollout", 1))
    on_policy = source != "Replay"
    return RunSettings(
        base=str(model.get("base", "smollm2-135m-instruct")),
        lora=None if lora is None else _init_args(lora),
        dtype=str(model.get("dtype", "auto")),
        precision=str(trainer.get("precision", "32-true")),
        sharded=strategy == "FSDP2",
        ranks=_count_devices(trainer.get("devices", 1)) * int(trainer.get("num_nodes", 1)),
        gradient_checkpointing=model.get("gradient_checkpointing") is True,
        tokens_per_microbatch=int(model.get("tokens_per_microbatch", 4096)),
        teacher=read_plug(model.get("teacher"), "Frozen")[0],
        optimizer=read_plug(model.get("optimizer"), "AdamW")[0],
        terms=len(model.get("terms") or ("policy", "distill", "imitate")),
        reads_start=bool(model.get("log_kl_to_init", True)) or not on_policy,
        on_policy=on_policy,
        rows=prompts * generations // updates if on_policy else int(source_args.get("rows_per_step", 16)),
        prompts=prompts if on_policy else int(source_args.get("rows_per_step", 16)),
        answer_tokens=int(engine_args.get("max_new_tokens", 64)),
        engine=engine,
        engine_share=float(engine_args.get("gpu_memory_utilization", 0.4)),
        overlaps=bool(source_args.get("max_staleness", 0)),
    )


def merge_config(argv: Sequence[str]) -> dict[str, Any]:
    """The config files in their order, and the options over them."""
    merged: dict[str, Any] = {}
    for path in list_config_files(argv):
        merged = _merge(merged, load_yaml(path))
    for name, value in list_flags(argv):
        *parents, last = name.removeprefix("--").split(".")
        place = merged
        for parent in parents:
            below = place.get(parent) or {}
            # A plug's name by itself, and options below it.
            place[parent] = {"class_path": below} if isinstance(below, str) else below
            place = place[parent]
            if not isinstance(place, dict):
                raise UserError("an option below a setting that is no mapping", got=name, key=name.removeprefix("--"))
        place[last] = read_value(value)
    return merged


def _merge(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(below)
    for name, value in above.items():
        old = found.get(name)
        same = (
            isinstance(old, dict)
            and isinstance(value, dict)
            and value.get("class_path") in (None, old.get("class_path"))
        )
        found[name] = _merge(old, value) if same and isinstance(old, dict) else value
    return found


def read_plug(value: Any, default: str) -> tuple[str, dict[str, Any]]:
    """The last part of a plug's class path, and its arguments."""
    if value is None:
        return default, {}
    if isinstance(value, str):
        return value.rsplit(".", 1)[-1], {}
    name = str(value.get("class_path", default)).rsplit(".", 1)[-1]
    rest = {key: item for key, item in value.items() if key not in ("class_path", "init_args")}
    return name, {**(value.get("init_args") or {}), **rest}  # options below a plug win over its file


def _init_args(value: Any) -> dict[str, Any]:
    return read_plug(value, "LoRA")[1]


def _get(config: dict[str, Any], name: str) -> dict[str, Any]:
    found = config.get(name) or {}
    if not isinstance(found, dict):
        raise UserError("config", got=type(found).__name__, expected="a mapping of settings", key=name)
    return found


def _count_devices(value: Any) -> int:
    if isinstance(value, list):
        return len(value)
    number = 1 if value in ("auto", None) else int(value)
    if number < 1:
        raise UserError("how many devices?", got=value, expected="a number", key="trainer.devices")
    return number
