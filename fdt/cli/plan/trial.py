"""How long a step takes on this machine: a short run of the model, or two of few layers, and the line through both.

A run is that of the config, with its terms, optimiser, teacher, strategy and ranks; what it reads is made up, of as
many tokens as are planned for. Each further layer takes as much time, so that two depths tell any.
"""

from __future__ import annotations

import copy
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoTokenizer

from fdt.cli.plan.estimate import Measured, Workload
from fdt.cli.plan.probe import PLUGS, build_trainer, find_shortest_step, read_steps
from fdt.cli.plan.settings import RunSettings, read_plug
from fdt.cli.plan.shape import ModelShape, load_config
from fdt.data.chat.template import render_messages
from fdt.errors import UserError
from fdt.policy.hub import resolve_model
from feedback.hints import CritiqueHint
from feedback.types import Episode, Feedback, Task, Turn

WEIGHTS = 2**30
"""Most bytes of the layers of the model that is run, where that leaves three of them."""
STEPS = 4
"""Of a run; the first one is left out."""
TRAINER = ("accelerator", "strategy", "devices", "precision", "gradient_clip_val", "accumulate_grad_batches")
"""Settings of the trainer that a short run takes over."""


def measure_step(
    config: Mapping[str, Any], shape: ModelShape, settings: RunSettings, load: Workload, say: Callable[[str], None]
) -> Measured:
    """A step of the whole model on this machine, from runs of few of its layers.

    Args:
        config: the run's, merged.
        say: is told what is done.

    Raises:
        UserError: where this machine has fewer cores than the run ranks, or a short run fails.
    """
    cores = os.cpu_count() or 1
    if settings.devices > cores:
        raise UserError(
            f"{settings.devices} ranks cannot be timed here",
            got=f"a machine of {cores} cores",
            remedy="leave --measure away and name a --card, or plan for fewer --trainer.devices",
        )
    depths = choose_depths(shape)
    found = []
    with tempfile.TemporaryDirectory() as place:
        for depth in depths:
            say(f"{STEPS} steps of a model of {depth} of {shape.layers} layers ...")
            folder = Path(place) / str(depth)
            write_trial(folder, config, shape, settings, load, depth)
            found.append(run_trial(folder))
    return extend_line(depths, found, shape.layers)


def choose_depths(shape: ModelShape) -> tuple[int, ...]:
    """Layers of the models that are run: all where they can be held, else one, and as many as can be held. Few layers
    may stay in a processor's cache where all do not, so that a line through few is drawn only where it must be."""
    size = 4 * shape.layer_parameters / shape.layers
    deepest = min(shape.layers, max(3, math.floor(WEIGHTS / size)))
    return (deepest,) if deepest == shape.layers else (1, deepest)


def extend_line(depths: Sequence[int], found: Sequence[Measured], layers: int) -> Measured:
    """What a model of so many layers takes, from one depth, which has them all or nearly, or from two."""
    first, last = found[0], found[-1]
    more = (layers - depths[-1]) / (depths[-1] - depths[0]) if len(found) > 1 else 0.0

    def extend(low: float, high: float) -> float:
        return high + more * max(0.0, high - low)

    return Measured(extend(first.seconds, last.seconds), extend(first.generate, last.generate))


def write_trial(
    folder: Path, config: Mapping[str, Any], shape: ModelShape, settings: RunSettings, load: Workload, depth: int
) -> None:
    """A model of random weights, rows, and the config of a run that reads them, in a folder of their own."""
    base = folder / "base"
    shallow = copy.deepcopy(load_config(settings.base))
    text = shallow.get_text_config()
    text.num_hidden_layers = depth
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[:depth]
    AutoModelForCausalLM.from_config(shallow, dtype=shape.base_dtype).save_pretrained(base)
    tokenizer = AutoTokenizer.from_pretrained(resolve_model(settings.base))
    tokenizer.save_pretrained(base)
    rows = -(-settings.rows * settings.devices // settings.ranks)
    words = fit_words(tokenizer, load)
    write_rows(folder / "rows.jsonl", rows * (STEPS + 3), load, words)
    trial = {
        "trainer": _build_trainer(config, folder),
        "model": _build_model(config, settings, base),
        "data": _build_data(folder, settings, load, words, rows),
    }
    (folder / "config.yaml").write_text(json.dumps(trial))


def _build_trainer(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    given = config.get("trainer") or {}
    callbacks = given.get("callbacks") or []
    kept = [one for one in (callbacks if isinstance(callbacks, list) else [callbacks]) if _is_transcripts(one)]
    short = build_trainer(folder, STEPS)
    return {name: given[name] for name in TRAINER if name in given} | short | {"callbacks": kept + short["callbacks"]}


def _is_transcripts(callback: Any) -> bool:
    return read_plug(callback, "")[0] == "Transcripts"


def _build_model(config: Mapping[str, Any], settings: RunSettings, base: Path) -> dict[str, Any]:
    """The run's; adapters of some layers stand in all, as the plan counts them."""
    model = dict(config.get("model") or {}) | {"base": str(base), "lora": settings.lora}
    if settings.lora is not None:
        left = ("layers", "activation_cache_folder")
        model["lora"] = {name: value for name, value in settings.lora.items() if name not in left}
    return model


def _build_data(folder: Path, settings: RunSettings, load: Workload, words: Words, rows: int) -> dict[str, Any]:
    data: dict[str, Any] = {"file": str(folder / "rows.jsonl"), "heldout": 0.1, "evaluation_limit": 1}
    if not settings.on_policy:
        return data | {"source": {"class_path": "fdt.rollout.sources.Replay", "init_args": {"rows_per_step": rows}}}
    prompts = -(-settings.prompts * settings.devices // settings.ranks)
    fresh = {"prompts_per_rollout": prompts, "num_generations": -(-rows // prompts)}
    judged = {
        "critique": words.critique,
        "revision": words.answer,
        "critique_share": load.hinted,
        "revision_share": load.imitated,
    }
    return data | {
        "source": {"class_path": "fdt.rollout.sources.OnPolicy", "init_args": fresh},
        "engine": {"class_path": "fdt.engines.HuggingFace", "init_args": {"max_new_tokens": load.answer_tokens}},
        "grader": {"class_path": f"{PLUGS}.AnyScore", "init_args": judged},
    }


@dataclass(frozen=True)
class Words:
    """Texts of as many tokens as are planned for."""

    prompt: str
    answer: str
    critique: str


def repeat_word(number: int) -> str:
    """So many words, each of a token in most vocabularies."""
    return " ".join(["sea"] * number)


def fit_words(tokenizer: Any, load: Workload) -> Words:
    """Texts of so many tokens, with what the chat template and the hint's template write around them."""
    prompt = repeat_word(_fit(lambda number: _count(tokenizer, repeat_word(number), None), load.prompt_tokens))
    bare = _count(tokenizer, prompt, None)
    hint = _fit(lambda number: _count(tokenizer, prompt, repeat_word(number)) - bare, load.hint_tokens)
    answer = _fit(lambda number: len(tokenizer(repeat_word(number)).input_ids), load.answer_tokens)
    return Words(prompt, repeat_word(answer), repeat_word(hint))


def _fit(count: Callable[[int], int], wanted: int) -> int:
    """Words, at least one, that give so many tokens or nearly: each further one takes as many."""
    first = count(1)
    return max(1, 1 + round((wanted - first) / max(1, count(2) - first)))


def _count(tokenizer: Any, prompt: str, critique: str | None) -> int:
    """Tokens of a prompt up to its answer, with a critique in it where there is one."""
    messages: list[Any] = [{"role": "user", "content": prompt}]
    if critique is not None:
        task = Task("0", messages=tuple(messages))
        episode = Episode("0", task, (Turn("assistant", "a"),), (Feedback(text=critique),))
        messages = CritiqueHint()(episode) or messages
    return len(tokenizer(render_messages(messages, tokenizer), add_special_tokens=False).input_ids)


def write_rows(path: Path, number: int, load: Workload, words: Words) -> None:
    """A file of rows with a score each, and a critique and a correction for as many as are planned for."""
    with path.open("w") as file:
        for place in range(number):
            # Shares hold in each step: golden-ratio steps spread rows evenly whatever part of the file is read.
            drawn = place * 0.6180339887 % 1
            row = {
                "prompt": f"{place // 4} {words.prompt}",
                "response": f"{words.answer} {place % 4}",
                "score": place % 3 / 2,
                "critique": words.critique if drawn < load.hinted else None,
                "revision": words.answer if drawn < load.imitated else None,
            }
            file.write(json.dumps({name: value for name, value in row.items() if value is not None}) + "\n")


def run_trial(folder: Path) -> Measured:
    """The shortest step of a run beside its first, since whatever else the machine does only adds.

    Raises:
        UserError: with the run's last words, where it fails.
    """
    line = [sys.executable, "-m", "fdt", "fit", "-c", str(folder / "config.yaml")]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise UserError(f"a short run of this config failed:\n{said[-2000:]}", key="--measure")
    return Measured(*find_shortest_step(read_steps(folder)))
