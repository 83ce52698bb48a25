"""What a run's config says about its size; read as YAML, so that no trainer, card or weight is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fdt.cli.run.arguments import list_config_files, list_flags, load_yaml, read_value
from fdt.errors import UserError

DEFAULT_TERMS = {"policy": "PolicyGradient", "distill": "Distill", "imitate": "Imitate"}
"""Of a learner that is given none."""


@dataclass(frozen=True)
class RunSettings:
    """The settings that decide about memory and time."""

    base: str
    lora: dict[str, Any] | None
    dtype: str
    precision: str
    sharded: bool
    ranks: int
    devices: int
    """Ranks of one machine."""
    on_cpu: bool
    """Whether the trainer is told to compute on a CPU."""
    gradient_checkpointing: bool
    tokens_per_microbatch: int
    teacher: str
    """Class of the teacher: Frozen, EMA or Live."""
    optimizer: str
    """Class of the optimiser."""
    terms: tuple[str, ...]
    """Classes of the loss terms."""
    start_share: float
    """Share of the steps in which the starting policy reads each answer."""
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
    reread_rows: int
    """Rows that a rank reads once more after the update, for the transcripts."""
    reread_share: float
    """Share of the steps in which it does."""
    reads_teacher: bool
    """Whether a term compares with a teacher."""


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
    lora = model.get("lora", {})
    stages = read_plug(source_args.get("curriculum"), "")[1].get("stages") or []
    terms = [read_plug(term, "") for term in (model.get("terms") or DEFAULT_TERMS).values()]
    on_policy = source != "Replay"
    read = int(source_args.get("prompts_per_rollout", 4) if on_policy else source_args.get("rows_per_step", 16))
    reread_rows, reread_share = _find_rereading(trainer)
    devices = _count_devices(trainer.get("devices", 1))
    return RunSettings(
        base=str(model.get("base", "smollm2-135m-instruct")),
        lora=None if lora is None else _init_args(lora),
        dtype=str(model.get("dtype", "auto")),
        precision=str(trainer.get("precision", "32-true")),
        sharded=read_plug(trainer.get("strategy"), "auto")[0] == "FSDP2",
        ranks=devices * int(trainer.get("num_nodes", 1)),
        devices=devices,
        on_cpu=trainer.get("accelerator") == "cpu",
        gradient_checkpointing=model.get("gradient_checkpointing") is True,
        tokens_per_microbatch=int(model.get("tokens_per_microbatch", 4096)),
        teacher=read_plug(model.get("teacher"), "Frozen")[0],
        optimizer=read_plug(model.get("optimizer"), "AdamW")[0],
        terms=tuple(kind for kind, _ in terms),
        start_share=_find_start_share(model, terms, on_policy),
        on_policy=on_policy,
        rows=_count_answers(source_args, read, stages) if on_policy else read,
        prompts=read,
        answer_tokens=_find_most(stages, "max_new_tokens", int(engine_args.get("max_new_tokens", 64))),
        engine=engine,
        engine_share=float(engine_args.get("gpu_memory_utilization", 0.4)),
        overlaps=bool(source_args.get("max_staleness", 0)),
        reread_rows=reread_rows,
        reread_share=reread_share,
        reads_teacher=not all(_is_alone(*term) for term in terms),
    )


def _count_answers(source: Mapping[str, Any], prompts: int, stages: Sequence[Mapping[str, Any]]) -> int:
    """Answers of a step on-policy, those of the largest stage where a curriculum has stages."""
    answers = _find_most(stages, "num_generations", int(source.get("num_generations", 4)))
    return prompts * answers // int(source.get("updates_per_rollout", 1))


def _is_alone(kind: str, arguments: Mapping[str, Any]) -> bool:
    """Whether a term compares with no teacher, as far as its settings tell."""
    return kind in ("PolicyGradient", "Imitate") and not arguments.get("token_weight")


def _find_rereading(trainer: Mapping[str, Any]) -> tuple[int, float]:
    """Rows that the transcripts read once more, and in which share of the steps; every run writes them."""
    given = trainer.get("callbacks") or []
    plugs = [read_plug(item, "") for item in (given if isinstance(given, list) else [given])]
    found = next((arguments for kind, arguments in plugs if kind == "Transcripts"), {})
    rows = int(found.get("token_rows", 2)) if found.get("after_update", True) else 0
    return rows, 1.0 / int(found.get("every_n_steps", 1))


def _find_start_share(
    model: Mapping[str, Any], terms: Sequence[tuple[str, Mapping[str, Any]]], on_policy: bool
) -> float:
    """Replay takes the starting policy for the one that sampled, an anchor needs it; else it is read to log the KL."""
    anchors = any(kind == "KLAnchor" for kind, _ in terms)
    interval = int(model.get("log_kl_to_init", True))
    return 1.0 if anchors or not on_policy else 1.0 / interval if interval else 0.0


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


def _find_most(stages: Sequence[Mapping[str, Any]], name: str, value: int) -> int:
    """The largest of a setting that stages of a curriculum may change."""
    return max((int(stage.get(name) or value) for stage in stages), default=value)


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
