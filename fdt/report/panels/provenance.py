"""Where a run comes from: command, versions, commit, machine, data, seeds, time, cost, as the run wrote them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fdt.report.measures import compute_cost
from fdt.report.panels.costs import build_judge_cost
from fdt.report.panels.settings import HIDDEN, USER_IN_URL, is_secret
from fdt.report.runs import Record, Run

NAME = "run.json"
SEEDS = ("seed_everything", "model.seed", "data.seed")
LOG = "log.txt"


@dataclass(frozen=True)
class Provenance:
    """The origin of one run: what a fact is called, and the fact."""

    run: str
    facts: list[tuple[str, str]]


def build_provenance(run: Run) -> Provenance:
    """What ``run.json``, the config and the logs say; of a run that was resumed each start."""
    facts: list[tuple[str, str]] = []
    parts = read_parts(run)
    for number, part in enumerate(parts, 1):
        again = f", start {number}" if len(parts) > 1 else ""
        facts += [(name + again, text) for name, text in _list_facts(part) if text]
    if not parts:
        return Provenance(run.name, [])
    return Provenance(run.name, facts + [(name, text) for name, text in _list_totals(run) if text])


def read_parts(run: Run) -> list[Record]:
    """One entry for each time that the run was started; none where it left no ``run.json``."""
    path = run.folder / NAME
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return []
    found = content if isinstance(content, list) else [content]
    return [part for part in found if isinstance(part, dict)]


def _list_facts(part: Record) -> list[tuple[str, str]]:
    machine = part.get("machine")
    facts = machine if isinstance(machine, dict) else {}
    data = part.get("data")
    files = data if isinstance(data, dict) else {}
    return [
        ("started", _text(part.get("started"))),
        ("command", hide_in_command(_text(part.get("command")))),
        ("folder", _text(part.get("folder"))),
        ("commit", _text(part.get("commit"))),
        ("versions", _join(part.get("versions"))),
        ("machine", ", ".join(f"{value} cores" if key == "cores" else str(value) for key, value in facts.items())),
        ("data, SHA-256", "\n".join(f"{name}: {digest}" for name, digest in files.items())),
    ]


def _list_totals(run: Run) -> list[tuple[str, str]]:
    stated = [(key, _look_up(run.config, key)) for key in SEEDS]
    *_, minutes = compute_cost(run)
    return [
        ("seeds", ", ".join(f"{key} {value}" for key, value in stated if isinstance(value, int))),
        ("wall time", _read_wall_time(run)),
        ("in training steps", f"{minutes:.1f} minutes" if minutes == minutes else ""),
        ("judges", _describe_judges(run)),
    ]


def _read_wall_time(run: Run) -> str:
    """From the first to the last line of the log, pauses between starts included."""
    try:
        lines = (run.folder / LOG).read_text(encoding="utf-8", errors="replace").splitlines()
        first, last = (datetime.fromisoformat(line.split()[0]) for line in (lines[0], lines[-1]))
    except (OSError, ValueError, IndexError, TypeError):
        return ""
    return f"{(last - first).total_seconds() / 60:.1f} minutes, from the first to the last logged step"


def _describe_judges(run: Run) -> str:
    """What calls to judges took; nothing where there were none."""
    found = build_judge_cost(run)
    if found is None:
        return ""
    tokens = f"{found.prompt_tokens:,.0f} tokens read and {found.completion_tokens:,.0f} written"
    cost = f", cost {found.cost:.4f}" if found.cost == found.cost else ""
    return f"{found.replies:,.0f} replies ({found.kept:,.0f} more kept from before), {tokens}{cost}"


def _look_up(config: Record, key: str) -> Any:
    node: Any = config
    for part in key.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    return None if isinstance(node, bool) else node


def hide_in_command(command: str) -> str:
    """A command with the values of options that name a secret, and users in addresses, left out."""
    words = USER_IN_URL.sub(f"{HIDDEN}@", command).split(" ")
    for place, word in enumerate(words):
        name, equals, value = word.partition("=")
        if not name.startswith("--"):
            continue
        following = words[place + 1] if place + 1 < len(words) else ""
        if not is_secret(name.removeprefix("--"), _read_value(value if equals else following)):
            continue
        if equals:
            words[place] = f"{name}={HIDDEN}"
        else:
            words[place + 1] = HIDDEN
    return " ".join(words)


def _read_value(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _join(value: Any) -> str:
    return ", ".join(f"{name} {number}" for name, number in value.items()) if isinstance(value, dict) else ""


def _text(value: Any) -> str:
    return "" if value is None else str(value)
