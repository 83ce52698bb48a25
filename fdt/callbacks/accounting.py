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

from fdt.distributed import gather_objects
from fdt.report.measures import format_accounting
from feedback.types import Episode

JUDGES = 200
Judge = tuple[str, str | None]
LABELS = {"sampled": "score", "distilled": "critique", "imitated": "revision"}


class Accounting(Callback):
    """Follows each row of the feedback file; writes ``accounting.json`` and prints one line at the end."""

    def __init__(self) -> None:
        self.signals: dict[str, set[str]] = {}
        self.seen: set[str] = set()
        self.lost: set[str] = set()
        self.refused: Counter[str] = Counter()
        self.before: Counter[str] = Counter()
        self.played: Counter[str] = Counter()
        self.played_before: Counter[str] = Counter()

    def state_dict(self) -> dict[str, Any]:
        # One rank writes the checkpoint, so it must hold what all ranks saw.
        signals, seen, lost, refused = self._gather_ranks()
        ledger = {key: sorted(names) for key, names in signals.items()}
        found = {"signals": ledger, "seen": sorted(seen), "lost": sorted(lost), "refused": dict(refused)}
        return found | {"played": dict(self._count_episodes())}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.signals = {k: set(v) for k, v in state_dict["signals"].items()}
        self.seen, self.lost = set(state_dict["seen"]), set(state_dict["lost"])
        self.before, self.played_before = Counter(state_dict["refused"]), Counter(state_dict["played"])

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        outcome, actor = outputs["metrics"], trainer.datamodule.actor
        self.lost |= actor.collator.lost
        self.refused, self.played = actor.refused + actor.collator.shortened, Counter(actor.played)
        fresh = trainer.datamodule.source.on_policy
        streams = {name: LABELS.get(term.mask, term.mask) for name, term in outcome.terms.items()}
        for row, episode in enumerate(outcome.batch.episodes):
            key = episode.task.key if fresh else episode.id
            self.seen.add(key)
            heard = {streams[name] for name, rows in outcome.used.items() if bool(rows[row])}
            if heard and outputs["finite"]:
                self.signals.setdefault(key, set()).update(heard)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        signals, seen, lost, refused = self._gather_ranks()
        data = trainer.datamodule
        fresh = data.source.on_policy
        # Fresh answers are named after their prompt: task#number.
        lost = {name.rsplit("#", 1)[0] for name in lost} if fresh else lost
        used: Counter[str] = Counter()
        dropped: Counter[str] = Counter({"held out for measuring": data.kept_out} if data.kept_out else {})
        for episode in data.episodes:
            key = episode.task.key if fresh else episode.id
            if key in signals:
                used[("prompt: " if fresh else "") + " + ".join(sorted(signals[key]))] += 1
            elif key in seen:
                dropped["prompt gave no signal" if fresh else "no signal (no critique, no revision, advantage 0)"] += 1
            else:
                dropped["too long" if key in lost else "not reached (max_steps)"] += 1
        result = {"rows": data.records, "used": dict(used), "dropped": dict(dropped), "file": str(data.file)}
        result["rewrites"] = dict(refused)
        if played := self._count_episodes():
            result["played"] = dict(played)
        if not fresh:  # recorded scores and words are heard in a replay alone
            result["judges"] = count_by_annotator(data.episodes, signals.keys())
        total = sum(used.values()) + sum(dropped.values())
        assert total == data.records, f"accounting: {total} rows explained, the file has {data.records}"
        if trainer.is_global_zero:
            path = Path(trainer.default_root_dir) / "accounting.json"
            path.write_text(json.dumps(result, indent=1, ensure_ascii=False), encoding="utf-8")
        rank_zero_info(format_accounting(result))

    def _count_episodes(self) -> Counter[str]:
        """How the episodes of training went, over all ranks."""
        return sum(gather_objects(self.played), Counter(self.played_before))

    def _gather_ranks(self) -> tuple[dict[str, set[str]], set[str], set[str], Counter[str]]:
        mine = (self.signals, self.seen, self.lost, self.refused)
        parts = gather_objects(mine)
        signals: dict[str, set[str]] = {}
        for part, *_ in parts:
            for key, names in part.items():
                signals.setdefault(key, set()).update(names)
        seen, lost = (set().union(*(part[n] for part in parts)) for n in (1, 2))
        return signals, seen, lost, sum((part[3] for part in parts), Counter(self.before))


def count_by_annotator(episodes: Iterable[Episode], used: Container[str]) -> list[dict[str, Any]]:
    """For each source and annotator: rows with their feedback, how many of those were used, and how many criticised.

    A row that several judged counts for each of them. At most `JUDGES`, those of most rows.
    """
    rows, heard, critiques = Counter[Judge](), Counter[Judge](), Counter[Judge]()
    for episode in episodes:
        judges = {(item.source, item.annotator) for item in episode.feedback}
        rows.update(judges)
        heard.update(judges if episode.id in used else ())
        critiques.update({(item.source, item.annotator) for item in episode.feedback if item.text})
    return [
        {"source": judge[0], "annotator": judge[1], "rows": count, "used": heard[judge], "critiques": critiques[judge]}
        for judge, count in rows.most_common(JUDGES)
    ]
