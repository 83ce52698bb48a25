"""The model card of an export: what it was made from and how, what it does on held-out prompts, its licences."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fdt import __version__
from fdt.report.measures import format_accounting
from fdt.report.panels.calibration import Calibration, compute_calibrations
from fdt.report.panels.provenance import build_provenance
from fdt.report.panels.settings import hide_secrets
from fdt.report.runs import EVAL, Run, read_run
from fdt.report.sanitize import make_legible
from fdt.report.table import build_table

NAME = "README.md"
FIGURES = "figures"
UNSTATED = "not stated: look it up before you publish this model"
OPENING = {
    "merged": 'model = AutoModelForCausalLM.from_pretrained("merged")',
    "adapter": 'model = AutoPeftModelForCausalLM.from_pretrained("adapter")',
}


@dataclass(frozen=True)
class Licences:
    """What may be done with a model and with the data that it learned from, as SPDX names; None: nobody said."""

    model: str | None = None
    data: str | None = None


def find_run(checkpoint: Path) -> Run | None:
    """The run that a checkpoint lies in; None where it stands alone."""
    folder = checkpoint.absolute().parent.parent
    return read_run(folder) if (folder / "config.yaml").is_file() else None


def write_card(
    folder: Path, facts: dict[str, Any], differences: dict[str, float], run: Run | None, licences: Licences
) -> None:
    """Writes ``README.md`` and, where answers stated confidences, ``figures/calibration_….png`` into an export and into
    each model folder of it, which are published one by one."""
    calibrated = compute_calibrations([run]) if run is not None and (run.folder / EVAL).is_dir() else []
    for place in (folder, *(folder / part for part in differences)):
        figures = save_calibration(calibrated, place / FIGURES)
        card = render_card(facts, differences, run, licences, figures)
        (place / NAME).write_text(card, encoding="utf-8")


def save_calibration(calibrated: list[Calibration], folder: Path) -> dict[str, Path]:
    """Title -> picture, written into `folder`, which is made where there is something to draw."""
    if not calibrated:
        return {}
    from fdt.report.panels.reliability import save_reliability

    folder.mkdir(parents=True, exist_ok=True)
    return save_reliability(calibrated, folder)


def render_card(
    facts: dict[str, Any],
    differences: dict[str, float],
    run: Run | None,
    licences: Licences,
    figures: dict[str, Path],
) -> str:
    """The card as Markdown, its head as YAML for a hub."""
    head = {
        "base_model": facts["model"],
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "license": licences.model or "other",
        **({} if licences.model else {"license_name": "see-base-model"}),
        "tags": ["feedback-distillation-trainer"],
    }
    parts = [
        f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---",
        f"# {facts['model']}, trained on feedback",
        "\n".join(_describe_making(facts, differences)),
        "\n".join(["```python", *(OPENING[name] for name in differences), "```"]),
        "\n".join(_list_licences(facts, licences)),
        *(_describe_run(run, figures) if run is not None else []),
    ]
    return "\n\n".join(parts) + "\n"


def _describe_making(facts: dict[str, Any], differences: dict[str, float]) -> list[str]:
    lora = facts["lora"]
    how = f"LoRA adapters (rank {lora['rank']}, alpha {lora['alpha']:g})" if lora else "all weights"
    lines = [
        f"- Base model: `{facts['model']}`; its licence holds for this model too.",
        f"- Trained: {how}, {facts['steps']} optimiser steps, fdt {facts['version']}; exported by fdt {__version__}.",
    ]
    lines += [
        f"- `{name}/`: logits within {difference:.1e} of the trained model's (float32, a fixed prompt)."
        for name, difference in differences.items()
    ]
    return lines + ["- The adapter finds its base through adapter_config.json."] * ("adapter" in differences)


def _list_licences(facts: dict[str, Any], licences: Licences) -> list[str]:
    return [
        "## Licences",
        "",
        f"- This model: {licences.model or UNSTATED}.",
        f"- Its base `{facts['model']}`: the licence of its own card.",
        f"- The feedback it learned from: {licences.data or UNSTATED}.",
    ]


def _describe_run(run: Run, figures: dict[str, Path]) -> list[str]:
    table = build_table([run])
    parts = ["## What it learned from", "\n".join(_describe_data(run)), "## The mix", "\n".join(_describe_mix(run))]
    if table.rows:
        parts += ["## Held-out prompts", table.as_markdown().strip()]
        parts.append("Intervals: percentile bootstrap over prompts; the change is paired by prompt with the base.")
    if figures:
        parts.append("## Can its stated confidence be believed?")
        parts += [f"![{title}]({FIGURES}/{path.name})" for title, path in figures.items()]
    facts = [fact for fact in build_provenance(run).facts if fact[0] != "folder"]  # a path of this machine
    if facts:
        lines = [f"- {name}: {_quote(value)}" for name, value in facts]
        parts += ["## Where it comes from", "\n".join(lines)]
    return parts


def _describe_data(run: Run) -> list[str]:
    data = run.config.get("data")
    settings = data if isinstance(data, dict) else {}
    found = [
        f"- {key}: {_quote(_name(settings[key]))}" for key in ("file", "environment", "grader") if settings.get(key)
    ]
    if run.accounting:
        account = make_legible(format_accounting(run.accounting)).replace("<", "&lt;")
        found.append(f"- rows: {account}")
    return found or ["Not recorded."]


def _describe_mix(run: Run) -> list[str]:
    model = run.config.get("model")
    settings = hide_secrets(model) if isinstance(model, dict) else {}
    terms = settings.get("terms")
    coefficients = settings.get("coefficients")
    weights = coefficients if isinstance(coefficients, dict) else {}
    if not isinstance(terms, dict) or not terms:
        return ["The config names no terms: the mix is the default of the version above."]
    lines = ["| term | what it is | coefficient |", "| --- | --- | ---: |"]
    return lines + [f"| {name} | `{_name(term)}` | {_name(weights.get(name, 1.0))} |" for name, term in terms.items()]


def _name(value: Any) -> str:
    """A plug by its class, anything else as it is."""
    return str(value.get("class_path", value)) if isinstance(value, dict) else str(value)


def _quote(text: str) -> str:
    """One line of a run's own text as code, so that nothing in it is read as Markdown."""
    flat = " ".join(make_legible(text).replace("`", "'").split())
    return f"`{flat}`"
