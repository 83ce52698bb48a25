"""The record types of TRL (its "dataset formats and types"): texts or lists of messages throughout.

A comparison becomes two episodes, an unpaired label a score of 0 or 1, the steps of a stepwise record turns with a
label each, `privileged_context` a critique that only a teacher reads. Beside a completion the feedback of a row is read
too (`score`, `critique`, `revision`, `annotator`, `source`, `scores`), and its `reference`.
"""

from __future__ import annotations

from typing import Any

from feedback.readers import chat
from feedback.readers.base import Reader, build_pair, build_task, read_id
from feedback.readers.columns.packed import parse_dialogue
from feedback.readers.columns.words import parse_flag, parse_verdict
from feedback.readers.fields import Fields
from feedback.readers.formats.rows import read_own_feedback
from feedback.readers.formats.verifiers import Verifiers
from feedback.types import Episode, Feedback, Message, Task, Turn

KNOWN = ("id", "prompt", "completion", "completions", "chosen", "rejected", "label", "labels", "privileged_context")
OWN = ("score", "critique", "revision", "annotator", "source", "scores", "reference", "finished")
"""Columns of a row that are read beside a completion."""


class TRLPreference(Reader):
    """Chosen and rejected; the prompt may be the messages that both begin with."""

    name = "trl-preference"
    columns = ("chosen", "rejected")
    takes_scale = False

    def parse(self, fields: Fields) -> list[Episode]:
        """The chosen episode and the rejected."""
        task, chosen, rejected = read_comparison(_name_prompt(fields), KNOWN)
        if chosen == rejected and not fields.faults:
            remedy = "Leave the pair out: it prefers nothing."
            fields.refuse("rejected", fields.get("rejected"), "another answer than the chosen one", remedy)
        return build_pair(read_id(fields, "id"), task, chosen, rejected)


class TRLStepwise(Reader):
    """A response in steps, each right or wrong."""

    name = "trl-stepwise"
    columns = ("prompt", "completions", "labels")
    takes_scale = False

    def parse(self, fields: Fields) -> list[Episode]:
        """One episode."""
        task = build_task(fields, chat.read_prompt(fields, "prompt"), KNOWN)
        steps = fields.get_list("completions")
        labels = fields.get_list("labels")
        if len(steps) != len(labels) or not steps:
            fields.refuse("labels", labels, f"one label for each of the {len(steps)} completions")
        feedback = []
        for step, (text, label) in enumerate(zip(steps, labels, strict=False)):
            if not isinstance(text, str) or label not in (0, 1):
                fields.refuse(f"completions[{step}]", (text, label), "text with a label, true or false")
            else:
                feedback.append(Feedback(name="label", score=float(label), turn=step))
        turns = tuple(Turn("assistant", text) for text in steps if isinstance(text, str))
        return [Episode(read_id(fields, "id"), task, turns, tuple(feedback))]


class TRLCompletion(Reader):
    """Prompt and completion, with a label or a privileged context where there is one."""

    name = "trl-completion"
    columns = ("prompt", "completion")
    reads_row_columns = True

    def is_match(self, record: dict[str, Any]) -> bool:
        """Its columns, and none of a row's or of a rollout's."""
        other = "response" in record or Verifiers().is_match(record)
        return super().is_match(record) and isinstance(record["prompt"], (str, list)) and not other

    def parse(self, fields: Fields) -> list[Episode]:
        """One episode."""
        known = (*KNOWN, *OWN)
        task = build_task(fields, chat.read_prompt(fields, "prompt"), known, fields.get_label("reference"))
        turns = chat.read_answer(fields, "completion") if fields.get("completion") is not None else ()
        context = fields.get_text("privileged_context")
        if not turns and context is None:
            fields.refuse("completion", None, "an answer, or a privileged_context for answers to come")
        feedback = [*_read_label(fields), *read_own_feedback(fields)]
        if context is not None:
            feedback.append(Feedback(name="privileged_context", text=context))
        return [Episode(read_id(fields, "id"), task, turns, tuple(feedback))]


class TRLPrivileged(TRLCompletion):
    """A prompt and a privileged context, for answers to come."""

    name = "trl-privileged"
    columns = ("prompt", "privileged_context")


def _read_label(fields: Fields) -> list[Feedback]:
    """The label of a completion, good or not, as a score of 1 or 0."""
    value = fields.get("label")
    if value is None or value == "":
        return []
    flag = parse_flag(value)
    score = parse_verdict(value) if flag is None else float(flag)
    if score is None:
        remedy = "A rating is read as --map score=label says (in a config: data.map)."
        fields.refuse("label", value, "true or false", remedy)
        return []
    return [Feedback(name="label", score=score)]


def read_comparison(fields: Fields, known: tuple[str, ...]) -> tuple[Task, tuple[Turn, ...], tuple[Turn, ...]]:
    """Task, chosen and rejected turns of a comparison."""
    fields = chat.unpack_messages(chat.unpack_messages(fields, "chosen"), "rejected")
    if fields.get("prompt") is None:
        fields = _unpack_dialogues(fields)
    if fields.get("prompt") is not None and not _has_prompt_prefix(fields):
        messages = chat.read_prompt(fields, "prompt")
        return (
            build_task(fields, messages, known),
            chat.read_answer(fields, "chosen"),
            chat.read_answer(fields, "rejected"),
        )
    if isinstance(fields.get("chosen"), str):
        fields.refuse("prompt", None, "the prompt, since texts do not show where it ends", "Put it into a column.")
        return build_task(fields, (), known), (), ()
    chosen = chat.read_messages(fields, "chosen")
    rejected = chat.read_messages(fields, "rejected")
    start = _find_answer_start(chosen, rejected)
    messages = chat.check_prompt(fields, "chosen", chosen[:start])
    for name, found in (("chosen", chosen), ("rejected", rejected)):
        if len(found) <= start or found[start]["role"] != "assistant":
            fields.refuse(name, fields.get(name), "the shared messages, then the assistant's")
    if fields.get("prompt") is not None and not fields.faults:
        asked = chat.read_prompt(fields, "prompt")
        if asked and asked[-1]["content"] != messages[-1]["content"]:
            expected = "the prompt that chosen and rejected begin with, or none"
            fields.refuse("prompt", fields.get("prompt"), expected, "Remove one of the two.")
    better, worse = (tuple(map(chat.to_turn, found[start:])) for found in (chosen, rejected))
    return build_task(fields, messages, known), better, worse


def _unpack_dialogues(fields: Fields) -> Fields:
    """The fields with both texts as the messages that they hold, where both are dialogues."""
    texts = {name: fields.get(name) for name in ("chosen", "rejected")}
    found = {name: parse_dialogue(text) for name, text in texts.items() if isinstance(text, str)}
    return fields.replace_values(fields.value | found) if len(found) == 2 and all(found.values()) else fields


def _name_prompt(fields: Fields) -> Fields:
    """The fields with the dialogue before both answers as their prompt, where it has the name that LLaMA-Factory gives
    it, and each answer is one message."""
    place = next((name for name in ("conversations", "messages") if isinstance(fields.get(name), list)), None)
    alone = all(isinstance(fields.get(name), dict) for name in ("chosen", "rejected"))
    if place is None or not alone or fields.get("prompt") is not None:
        return fields
    rest = {name: value for name, value in fields.value.items() if name != place}
    return fields.replace_values(rest | {"prompt": fields.get(place)})


def _has_prompt_prefix(fields: Fields) -> bool:
    """Whether the comparisons repeat the prompt: messages that begin with somebody else's than the assistant's."""
    chosen = fields.get("chosen")
    first = chosen[0] if isinstance(chosen, list) and chosen else None
    return isinstance(first, dict) and chat.name_role(first.get("role", first.get("from"))) != "assistant"


def _find_answer_start(chosen: list[Message], rejected: list[Message]) -> int:
    """Where the answers begin: at the first message that differs, or at the last when none does."""
    shortest = min(len(chosen), len(rejected))
    start = next((n for n in range(shortest) if chosen[n] != rejected[n]), max(shortest - 1, 0))
    return start if start < shortest and chosen[start]["role"] == "assistant" else max(start - 1, 0)
