"""Held-out prompts side by side: the base's answer and every arm's."""

from dataclasses import dataclass
from math import isfinite

from fdt.report.measures import get_number
from fdt.report.runs import Record, Run

EACH = 4
"""Prompts shown of each outcome."""
IMPROVED = "improved"
WORSENED = "worsened"
SAME = "as before"


@dataclass(frozen=True)
class Answer:
    """One model's answer: `label` is "base" or the arm's name; `score` is NaN where it was not judged."""

    label: str
    text: str
    score: float
    outcome: str = ""
    turns: tuple[tuple[str, str], ...] = ()
    """Of an episode of several turns who spoke and what; the last turn of the policy is `text` too."""


@dataclass(frozen=True)
class Sample:
    """One held-out prompt with every model's answer."""

    prompt: str
    reference: str | None
    answers: list[Answer]
    outcome: str


def select_samples(runs: list[Run]) -> tuple[list[Sample], dict[str, int]]:
    """Some prompts of each outcome, and how many prompts had that outcome in all.

    A prompt counts as improved where an arm's score rose and none fell, as worsened where one fell, else as before.
    """
    base = next((run.evals["base"] for run in runs if run.evals.get("base")), [])
    arms = {run.name: {_get_id(record): record for record in run.evals.get("last", [])} for run in runs}
    arms = {name: records for name, records in arms.items() if records}
    everything = [_build_sample(record, arms) for record in base if "response" in record]
    everything = [sample for sample in everything if len(sample.answers) > 1]
    counted = {outcome: sum(s.outcome == outcome for s in everything) for outcome in (IMPROVED, WORSENED, SAME)}
    chosen = [s for outcome in counted for s in [s for s in everything if s.outcome == outcome][:EACH]]
    return chosen, counted


def _build_sample(record: Record, arms: dict[str, dict[str, Record]]) -> Sample:
    before = get_number(record, "score")
    answers = [Answer("base", str(record["response"]), before, turns=list_turns(record))]
    for name, records in arms.items():
        last = records.get(_get_id(record))
        # An arm that was asked something else under the same id is not comparable.
        if last is not None and last.get("prompt") == record.get("prompt"):
            score = get_number(last, "score")
            answers.append(
                Answer(name, str(last.get("response")), score, _compare_scores(before, score), list_turns(last))
            )
    outcomes = {answer.outcome for answer in answers}
    outcome = next((one for one in (WORSENED, IMPROVED) if one in outcomes), SAME)
    reference = record.get("reference")
    return Sample(as_text(record.get("prompt")), None if reference is None else str(reference), answers, outcome)


def list_turns(record: Record) -> tuple[tuple[str, str], ...]:
    """Role and text of each turn of a recorded conversation, tool calls and what was said of it in lines of their
    own."""
    found = record.get("conversation")
    turns = [turn for turn in found if isinstance(turn, dict)] if isinstance(found, list) else []
    lines = ([str(turn.get("text")), *_list_calls(turn), *_list_judgements(turn)] for turn in turns)
    return tuple((str(turn.get("role")), "\n".join(each)) for turn, each in zip(turns, lines, strict=True))


def _list_calls(turn: Record) -> list[str]:
    calls = turn.get("calls")
    known = [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    return [f"calls {call.get('name')}: {call.get('arguments')}" for call in known]


def _list_judgements(turn: Record) -> list[str]:
    found = turn.get("feedback")
    known = [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []
    lines = []
    for item in known:
        score = get_number(item, "score")
        said = [f"score {score:g}"] if isfinite(score) else []
        said += [str(item["text"])] if item.get("text") else []
        lines.append(f"judged by {item.get('annotator') or item.get('source')}: {', '.join(said)}")
    return lines


def _compare_scores(before: float, after: float) -> str:
    if not (isfinite(before) and isfinite(after)):
        return ""
    return IMPROVED if after > before else WORSENED if after < before else SAME


def _get_id(record: Record) -> str:
    return str(record.get("id"))


def as_text(prompt: object) -> str:
    """A prompt as text; of a list of messages, one paragraph per turn."""
    if isinstance(prompt, list):
        turns = [message for message in prompt if isinstance(message, dict)]
        return "\n\n".join(f"{turn.get('role')}: {turn.get('content')}" for turn in turns)
    return str(prompt)
