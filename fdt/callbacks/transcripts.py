"""Transcripts: every training answer with its feedback, and for some rows why each token moved."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from fdt.callbacks.access import get_experience, get_learner, get_metrics
from fdt.callbacks.evaluate import gather_records
from fdt.data.batch import Batch, View
from fdt.evaluation.base import describe_prompt, describe_skills, describe_turns
from fdt.learner import Learner
from fdt.metrics.step import StepMetrics
from fdt.policy.annotator_trust import AnnotatorTrust
from fdt.policy.log_probs import compute_batch_log_probs
from fdt.policy.teachers import disable_dropout
from fdt.report.measures import SIGNAL, WEIGHT
from feedback.types import Episode

VALUES = ("logp", "after", "old", "teacher_logp", "advantage")
"""What is written of each token beside its text and the terms' signals; null where a token has none."""


class Transcripts(Callback):
    """Appends a line for each answer of a step to ``transcripts.jsonl``.

    Some rows also have ``tokens``: log-prob before and after the update, teacher's log-prob, advantage and each term's
    signal, with the terms' ``coefficients``. Rows that a teacher scored go first, and each prompt once before twice.
    """

    def __init__(self, token_rows: int = 2, every_n_steps: int = 1, after_update: bool = True) -> None:
        """
        Args:
            token_rows: rows of each step whose tokens are written.
            every_n_steps: steps between two transcripts.
            after_update: read these rows once more after the update, which shows what it did to each token.
        """
        self.token_rows = token_rows
        self.every_n_steps = every_n_steps
        self.after_update = after_update

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A resumed run takes some steps again; what was written about them is dropped."""
        if trainer.is_global_zero:
            truncate_transcripts(Path(trainer.default_root_dir) / "transcripts.jsonl", trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx % self.every_n_steps:
            return
        records = gather_records(self._build_records(trainer, get_learner(pl_module), get_metrics(outputs)))
        if trainer.is_global_zero:
            path = Path(trainer.default_root_dir) / "transcripts.jsonl"
            with path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(r, ensure_ascii=False) + "\n" for r in records)

    def _build_records(self, trainer: Trainer, learner: Learner, metrics: StepMetrics) -> list[dict[str, Any]]:
        batch = metrics.batch
        assert learner.policy is not None  # made before training
        actions = [row for row in range(len(batch.episodes)) if not self._is_imitated(batch, row)]
        values = metrics.group_by_row() if actions else {}
        chosen = sorted(rank_rows(batch, [row for row in actions if row in values])[: self.token_rows])
        if self.after_update:
            for row, found in zip(chosen, compute_after(learner, batch, chosen), strict=False):
                values[row] = values[row] | {"after": found}
        objective = learner.objective
        coefficients = {name: objective.get_coefficient(name, batch.rollouts.update) for name in objective.terms}
        records = []
        for place, row in enumerate(actions):
            record = self._build_record(trainer, learner, batch.episodes[row], place)
            own = batch.rollouts.advantages[batch.rollouts.episode == row]
            record["advantage"] = float(own[0]) if len(own) else 0.0
            if row in chosen:
                record["coefficients"] = coefficients
                record["tokens"] = build_token_view(batch.student, row, values[row], learner.policy.tokenizer)
                number_turns(record["tokens"], batch.rollouts.turn[batch.rollouts.episode == row].tolist())
            records.append(record)
        return records

    def _is_imitated(self, batch: Batch, row: int) -> bool:
        rows = batch.rollouts.episode == row
        return bool(batch.rollouts.masks["imitated"][rows].any())

    def _build_record(self, trainer: Trainer, learner: Learner, episode: Episode, place: int) -> dict[str, Any]:
        data = get_experience(trainer)
        hinted = data.hint(episode, data.actor.collator.truncate_text) if data.hint is not None else None
        return {
            "order": (place, trainer.global_rank),
            "step": trainer.global_step,
            "id": episode.id,
            "task": episode.task.key,
            "staleness": episode.staleness,
            **describe_prompt(episode.task),
            "response": episode.response,
            "score": None if math.isnan(episode.score) else episode.score,
            "critique": episode.critique,
            "critique_by": _list_annotators(episode, learner.trust),
            "teacher_prompt": hinted[-1]["content"] if hinted else None,
            "revision": episode.revision,
            "revision_status": episode.revision_status,
            **describe_skills(episode),
            **describe_turns(episode),
        }


def compute_after(learner: Learner, batch: Batch, rows: list[int]) -> list[Tensor]:
    """Log-probs of each row's target tokens under the policy as it is now ``[tokens]``; every rank takes part."""
    policy = learner.policy
    # A rank without rows reads one all the same, since weights that are sharded are gathered by all ranks together.
    index = torch.tensor(rows or [0], device=batch.student.tokens.device)
    part = batch.select_rows(index)
    with disable_dropout(policy):
        found = compute_batch_log_probs(part, policy.compute_log_probs, learner.tokens_per_microbatch, policy)
    return list(found.cpu().split(part.student.counts.tolist()))


def number_turns(tokens: list[dict[str, Any]], turns: list[int]) -> None:
    """Says of each token which of its episode's policy turns it belongs to, from 0, where there are several."""
    first = min(turns, default=0)
    if max(turns, default=0) > first:
        for token, turn in zip(tokens, turns, strict=True):
            token["turn"] = turn - first


def rank_rows(batch: Batch, rows: list[int]) -> list[int]:
    """The rows of a batch in the order in which their tokens are shown."""
    distilled = set(batch.rollouts.episode[batch.rollouts.masks["distilled"]].tolist())
    counts: Counter[tuple[bool, str]] = Counter()
    ranked = []
    for row in rows:
        kind = (row not in distilled, batch.episodes[row].task.key)
        ranked.append((kind[0], counts[kind], row))
        counts[kind] += 1
    return [row for *_, row in sorted(ranked)]


def _list_annotators(episode: Episode, trust: AnnotatorTrust | None) -> list[dict[str, Any]]:
    """Who criticised the episode, each once, with the trust in them after the step where it is estimated."""
    found = dict.fromkeys((item.source, item.annotator) for item in episode.feedback if item.text)
    named = [{"source": source, "annotator": annotator} for source, annotator in found]
    if trust is None:
        return named
    return [one | {"trust": trust.get_mean(one["annotator"] or str(one["source"]))} for one in named]


def build_token_view(student: View, row: int, values: dict[str, Tensor], tokenizer: Any) -> list[dict[str, Any]]:
    """One entry a target token of the row: its text, `VALUES`, and of each term that declares a signal
    ``signal/<term>`` and ``weight/<term>``."""
    ids = student.tokens[row][student.target[row]].tolist()
    names = (*VALUES, *(name for name in values if name.startswith((SIGNAL, WEIGHT))))
    entries = []
    for place, token in enumerate(ids):
        entry: dict[str, Any] = {"text": tokenizer.decode([token])}
        for name in names:
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
