"""The accounting line: every row of the file was used, or dropped for a named reason, and the numbers add up."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Container, Iterable
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_info

from fdt.callbacks.access import get_experience, get_metrics
from fdt.distributed import gather_objects
from fdt.metrics.step import StepMetrics
from fdt.report.measures import format_accounting
from feedback.types import Episode
from objectives import PolicyGradient, Term

JUDGES = 200
"""Most judges that the file names."""
Judge = tuple[str, str | None]
LABELS = {"sampled": "score", "distilled": "critique", "imitated": "revision"}
"""What a term with this mask learns from."""


class Accounting(Callback):
    """Follows each row of the feedback file; writes ``accounting.json`` and prints one line at the end.

    A row counts as used once a term has trained on it: it had weight there and, where the term moves nothing without a
    signal (`Loss.needs_signal`), a signal other than 0.
    """

    def __init__(self) -> None:
        self.signals: dict[str, set[str]] = {}
        self.seen: set[str] = set()
        self.too_long: set[str] = set()
        self.rejected: Counter[str] = Counter()
        self.rejected_before: Counter[str] = Counter()
        self.episode_counts: Counter[str] = Counter()
        self.episode_counts_before: Counter[str] = Counter()

    def state_dict(self) -> dict[str, Any]:
        # One rank writes the checkpoint, so it must hold what all ranks saw.
        signals, seen, too_long, rejected = self._gather_ranks()
        return {
            "signals": {key: sorted(names) for key, names in signals.items()},
            "seen": sorted(seen),
            "too_long": sorted(too_long),
            "rejected": dict(rejected),
            "episode_counts": dict(self._count_episodes()),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.signals = {key: set(names) for key, names in state_dict["signals"].items()}
        self.seen = set(state_dict["seen"])
        self.too_long = set(state_dict["too_long"])
        self.rejected_before = Counter(state_dict["rejected"])
        self.episode_counts_before = Counter(state_dict["episode_counts"])

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        metrics = get_metrics(outputs)
        data = get_experience(trainer)
        collator = data.actor.collator
        self.too_long |= collator.dropped
        self.rejected = data.actor.rejections + collator.truncated
        self.episode_counts = Counter(data.actor.episode_counts)
        used = list_signals(metrics)
        for row, episode in enumerate(metrics.batch.episodes):
            key = episode.task.key if data.source.on_policy else episode.id
            self.seen.add(key)
            if used[row] and outputs["finite"]:
                self.signals.setdefault(key, set()).update(used[row])

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        signals, seen, too_long, rejected = self._gather_ranks()
        data = get_experience(trainer)
        fresh = data.source.on_policy
        # Fresh answers are named after their prompt: task#number.
        too_long = {name.rsplit("#", 1)[0] for name in too_long} if fresh else too_long
        used: Counter[str] = Counter()
        dropped: Counter[str] = Counter()
        if data.heldout_records:
            dropped["held out for measuring"] = data.heldout_records
        for episode in data.episodes:
            key = episode.task.key if fresh else episode.id
            if key in signals:
                used[("prompt: " if fresh else "") + " + ".join(sorted(signals[key]))] += 1
            elif key in seen:
                dropped["prompt gave no signal" if fresh else "no signal (no critique, no revision, advantage 0)"] += 1
            else:
                dropped["too long" if key in too_long else "not reached (max_steps)"] += 1
        result: dict[str, Any] = {"rows": data.records, "used": dict(used), "dropped": dict(dropped)}
        result |= {"file": str(data.file), "rewrites": dict(rejected)}
        if counts := self._count_episodes():
            result["episodes"] = dict(counts)
        if not fresh:  # only a replay learns from the file's own scores and critiques
            result["judges"] = count_by_annotator(data.episodes, signals.keys())
        total = sum(used.values()) + sum(dropped.values())
        assert total == data.records, f"accounting: {total} rows explained, the file has {data.records}"
        if trainer.is_global_zero:
            path = Path(trainer.default_root_dir) / "accounting.json"
            path.write_text(json.dumps(result, indent=1, ensure_ascii=False), encoding="utf-8")
        rank_zero_info(format_accounting(result))

    def _count_episodes(self) -> Counter[str]:
        """How the episodes of training went, over all ranks."""
        return sum(gather_objects(self.episode_counts), Counter(self.episode_counts_before))

    def _gather_ranks(self) -> tuple[dict[str, set[str]], set[str], set[str], Counter[str]]:
        parts = gather_objects((self.signals, self.seen, self.too_long, self.rejected))
        signals: dict[str, set[str]] = {}
        for part, *_ in parts:
            for key, names in part.items():
                signals.setdefault(key, set()).update(names)
        seen = set().union(*(part[1] for part in parts))
        too_long = set().union(*(part[2] for part in parts))
        return signals, seen, too_long, sum((part[3] for part in parts), Counter(self.rejected_before))


def list_signals(metrics: StepMetrics) -> list[set[str]]:
    """For each row of a step [B] what it was trained on: score, critique, revision, or the mask of an own term."""
    rollouts = metrics.batch.rollouts
    distilled = set(rollouts.episode[rollouts.masks["distilled"]].tolist())
    scored = set(rollouts.episode[rollouts.advantages.nan_to_num() != 0].tolist())
    found: list[set[str]] = [set() for _ in metrics.batch.episodes]
    for name, rows in metrics.used.items():
        term = metrics.terms[name]
        for row, signals in enumerate(found):
            if bool(rows[row]):
                signals |= name_signals(term, row in scored, row in distilled)
    return found


def name_signals(term: Term, has_advantage: bool, has_teacher: bool) -> set[str]:
    """What a term learned from on one row; a teacher that shapes the advantage of sampled tokens brings the critique. A
    term that only holds the policy near a reference (`KLAnchor`, `ReferenceKL`) learns from no feedback.

    Args:
        term: the term that used the row.
        has_advantage: whether the credit gave the row any advantage other than 0.
        has_teacher: whether a teacher read a hint for the row.
    """
    own = LABELS.get(term.mask, term.mask)
    if term.needs == {"reference"} and not isinstance(term, PolicyGradient):
        return set()
    if term.mask != "sampled" or not term.needs - {"reference"}:
        return {own}
    return ({own} if has_advantage else set()) | ({LABELS["distilled"]} if has_teacher else set())


def count_by_annotator(episodes: Iterable[Episode], used: Container[str]) -> list[dict[str, Any]]:
    """For each source and annotator: rows with their feedback, how many of those were used, and how many criticised.

    A row that several judged counts for each of them. At most `JUDGES`, those of most rows.
    """
    rows = Counter[Judge]()
    used_rows = Counter[Judge]()
    critiques = Counter[Judge]()
    for episode in episodes:
        judges = {(item.source, item.annotator) for item in episode.feedback}
        rows.update(judges)
        used_rows.update(judges if episode.id in used else ())
        critiques.update({(item.source, item.annotator) for item in episode.feedback if item.text})
    return [
        {
            "source": source,
            "annotator": annotator,
            "rows": count,
            "used": used_rows[source, annotator],
            "critiques": critiques[source, annotator],
        }
        for (source, annotator), count in rows.most_common(JUDGES)
    ]
