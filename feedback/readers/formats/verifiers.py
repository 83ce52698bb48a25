"""Results that `verifiers` saves (`results.jsonl`): a rollout a line, its reward, and what that is made of."""

from __future__ import annotations

from typing import Any

from feedback.readers import chat
from feedback.readers.base import Reader, build_task, read_id
from feedback.readers.fields import Fields
from feedback.types import Episode, Feedback

KNOWN = ("id", "prompt", "completion", "answer", "reward", "metrics")


class Verifiers(Reader):
    """One rollout as an episode; its metrics are measures beside the score, since the reward is made of them."""

    name = "verifiers"
    columns = ("prompt", "completion", "reward")

    def is_match(self, record: dict[str, Any]) -> bool:
        """A reward, and an example's number or the environment's own columns."""
        return super().is_match(record) and ("example_id" in record or {"answer", "task"} <= record.keys())

    def parse(self, fields: Fields) -> list[Episode]:
        """One episode."""
        reference = fields.get("answer") if isinstance(fields.get("answer"), str) else None
        known = KNOWN if reference is not None or not fields.get("answer") else tuple(set(KNOWN) - {"answer"})
        task = build_task(fields, chat.read_prompt(fields, "prompt", allow_unknown=True), known, reference or None)
        turns = chat.read_answer(fields, "completion", allow_unknown=True)
        score, scale = fields.get_score("reward")
        item = Feedback("environment", None, "reward", score, scale=scale)
        given = () if fields.get("reward") is None else (item,)
        metrics = fields.get_object("metrics")
        measures = {name: metrics.get_number(name) for name, value in metrics.value.items() if value is not None}
        return [Episode(read_id(fields, "id"), task, turns, given, measures=measures)]
