"""Transcripts: every training answer with its feedback, and for some rows why each token moved."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from fdt.callbacks.evaluate import gather_records
from fdt.evaluation.base import describe_turns


class Transcripts(Callback):
    """Appends to ``transcripts.jsonl``; ``tokens`` (log-prob, teacher's log-prob, advantage) for some rows of a step:
    those that a teacher scored go first, and each prompt once before any twice."""

    def __init__(self, token_rows: int = 2, every_n_steps: int = 1) -> None:
        """
        Args:
            token_rows: rows of each step whose tokens are written.
            every_n_steps: steps between two transcripts.
        """
        self.token_rows, self.every_n_steps = token_rows, every_n_steps

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A resumed run takes some steps again; what was told of them goes."""
        if trainer.is_global_zero:
            truncate_transcripts(Path(trainer.default_root_dir) / "transcripts.jsonl", trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx % self.every_n_steps:
            return
        records = gather_records(self._build_records(trainer, pl_module, outputs["metrics"]))
        if trainer.is_global_zero:
            path = Path(trainer.default_root_dir) / "transcripts.jsonl"
            with path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(r, ensure_ascii=False) + "\n" for r in records)

    def _build_records(self, trainer: Trainer, learner: LightningModule, outcome: Any) -> list[dict[str, Any]]:
        batch, tokenizer = outcome.batch, learner.policy.tokenizer
        actions = [n for n, e in enumerate(batch.episodes) if not self._is_imitated(batch, n)]
        records = []
        values = outcome.group_by_row() if actions else {}
        told = set(rank_rows(batch, [row for row in actions if row in values])[: self.token_rows])
        for place, row in enumerate(actions):
            record = self._build_record(trainer, batch.episodes[row], place)
            own = batch.rollouts.advantages[batch.rollouts.episode == row]
            record["advantage"] = float(own[0]) if len(own) else 0.0
            if row in told:
                record["tokens"] = build_token_view(batch.student, row, values[row], tokenizer)
            records.append(record)
        return records

    def _is_imitated(self, batch: Any, row: int) -> bool:
        rows = batch.rollouts.episode == row
        return bool(batch.rollouts.masks["imitated"][rows].any())

    def _build_record(self, trainer: Trainer, episode: Any, place: int) -> dict[str, Any]:
        data = trainer.datamodule
        hinted = data.hint(episode, data.actor.collator.truncate_text) if data.hint is not None else None
        return {
            "order": (place, trainer.global_rank),
            "step": trainer.global_step,
            "id": episode.id,
            "task": episode.task.key,
            "prompt": episode.task.messages[-1]["content"],
            "response": episode.response,
            "score": None if math.isnan(episode.score) else episode.score,
            "critique": episode.critique,
            "critique_by": _list_annotators(episode),
            "teacher_prompt": hinted[-1]["content"] if hinted else None,
            "revision": episode.revision,
            "revision_status": episode.revision_status,
            **describe_turns(episode),
        }


def rank_rows(batch: Any, rows: list[int]) -> list[int]:
    """The rows of a batch in the order in which their tokens are worth showing."""
    taught = set(batch.rollouts.episode[batch.rollouts.masks["distilled"]].tolist())
    told: Counter[tuple[bool, str]] = Counter()
    ranked = []
    for row in rows:
        kind = (row not in taught, batch.episodes[row].task.key)
        ranked.append((kind[0], told[kind], row))
        told[kind] += 1
    return [row for *_, row in sorted(ranked)]


def _list_annotators(episode: Any) -> list[dict[str, str | None]]:
    """Who criticised the episode, each once."""
    found = dict.fromkeys((item.source, item.annotator) for item in episode.feedback if item.text)
    return [{"source": source, "annotator": annotator} for source, annotator in found]


def build_token_view(student: Any, row: int, values: dict[str, Tensor], tokenizer: Any) -> list[dict[str, Any]]:
    """One entry a target token of the row."""
    ids = student.tokens[row][student.target[row]].tolist()
    entries = []
    for place, token in enumerate(ids):
        entry: dict[str, Any] = {"text": tokenizer.decode([token])}
        for name in ("logp", "old", "teacher_logp", "advantage"):
            value = float(values[name][place]) if name in values else math.nan
            entry[name] = None if math.isnan(value) else round(value, 5)
        entries.append(entry)
    return entries


def truncate_transcripts(path: Path, step: int) -> None:
    """Keeps the lines up to a step; a line that a kill cut short is dropped too."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if record["step"] <= step:
            kept.append(line)
    part = path.with_suffix(".part")
    part.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    part.replace(path)
