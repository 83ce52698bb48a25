"""What is judged: a feedback file, a run's answers, or a log that still grows; and the log that judgements go to."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from fdt.cli.reading import EpisodeReader, print_fault, replace_file
from fdt.data.splits import locate
from fdt.errors import UserError
from fdt.report.runs import EVAL, PREDICTIONS, TRANSCRIPTS, read_records, read_run
from feedback.faults import DataError
from feedback.logs import LogFile
from feedback.logs.episodes import build_episode_event
from feedback.logs.file import is_log, write_log
from feedback.readers.formats.episodes import build_record
from feedback.types import Episode, Message, Task, Turn, hash_prompt

ENDING = ".judged.jsonl"


def open_log(args: argparse.Namespace) -> Path:
    """The log that judgements go to, with every answer of the source in it.

    A log is judged where it is; of anything else a log is made beside it, or at `args.out`. Where that exists, it is
    gone on with: answers that it lacks are added, what it holds stays.

    Raises:
        UserError: nothing to judge, or a target that cannot be written or is something else.
        DataError: a source that cannot be read.
    """
    source = locate(args.file)
    if source.is_file() and is_log(source) and args.out is None:
        return source
    target = Path(args.out) if args.out else _choose_target(source, is_sample=source != Path(args.file).expanduser())
    if target.exists():
        if not is_log(target):
            remedy = "Name another file with --out."
            raise UserError("no log of judgements", got="another file", remedy=remedy, path=target)
        _add_missing(target, _read_answers(source, args))
        return target
    found = _require_answers(source, _read_answers(source, args))
    with replace_file(target) as part:
        write_log(part, map(build_episode_event, found))
    return target


def _choose_target(source: Path, is_sample: bool) -> Path:
    """Beside the source; of a bundled sample, in the current folder."""
    if source.is_dir():
        return source / f"answers{ENDING}"
    stem = source.name.removesuffix(".gz").rpartition(".")[0] or source.name
    return Path(stem + ENDING) if is_sample else source.with_name(stem + ENDING)


def _require_answers(source: Path, episodes: Iterable[Episode]) -> Iterator[Episode]:
    count = 0
    for episode in episodes:
        count += 1
        yield episode
    if not count:
        raise UserError("no answer to judge", expected="responses", path=source)


def _add_missing(target: Path, episodes: Iterable[Episode]) -> None:
    log = LogFile(target)
    known = {str(event.get("id")) for event in log.read_new() if "messages" in event}
    events = [build_episode_event(episode) for episode in episodes if episode.id not in known]
    if events:
        log.append(*events)
    log.close()


def _read_answers(source: Path, args: argparse.Namespace) -> Iterator[Episode]:
    if source.is_dir():
        yield from _read_run(source)
        return
    if source.name == TRANSCRIPTS:
        yield from _build_episodes(read_run(source.parent).read_transcripts(), "step")
        return
    if _is_measured(source):
        yield from _build_episodes(read_records(source, []), None)
        return
    reading = EpisodeReader(args, print_fault, str(source))
    for episode in reading:
        if episode.policy_turns:
            yield episode
    if reading.broken:
        raise reading.broken
    if not reading.is_valid:
        raise UserError(
            f"{reading.refused_count} records cannot be read",
            remedy="`fdt data check` lists what is wrong; --lenient leaves such records out.",
            path=source,
        )


def _is_measured(source: Path) -> bool:
    """Whether it is what a run predicted, or one of its measurements: by its place, and what the first line holds."""
    if source.name != PREDICTIONS and (source.parent.name != EVAL or source.suffix != ".jsonl"):
        return False
    return {"id", "prompt", "response", "tokens"} <= set(next(read_records(source, []), {}))


def _read_run(folder: Path) -> Iterator[Episode]:
    """The held-out answers of a run, of its last measurement; a `DataError` where it has none."""
    run = read_run(folder)
    found = run.evals.get("last") or next(reversed(run.evals.values()), [])
    if not any("response" in record for record in found):
        got = ", ".join(run.evals) or "no measurement"
        remedy = f"Judge what it answered in training: {folder / TRANSCRIPTS}."
        raise DataError(str(folder / EVAL), None, "response", got, "held-out answers", remedy)
    yield from _build_episodes(found, None)


def _build_episodes(records: Iterable[dict[str, Any]], place: str | None) -> Iterator[Episode]:
    """Records of a run as episodes, without the scores of its grader. A training row is named by its step too."""
    seen: dict[str, int] = {}
    for record in records:
        if "response" not in record:
            continue
        own = f"{place}{record.get(place)}/{record['id']}" if place else str(record["id"])
        seen[own] = seen.get(own, 0) + 1
        messages: tuple[Message, ...] = tuple(
            record.get("messages") or [{"role": "user", "content": record["prompt"] or ""}]
        )
        turns = tuple(_build_turn(turn) for turn in record.get("conversation", ())) or (
            Turn("assistant", record["response"]),
        )
        task = Task(str(record.get("task") or hash_prompt(messages)), messages, record.get("reference"))
        yield Episode(own if seen[own] == 1 else f"{own}#{seen[own]}", task, turns)


def _build_turn(turn: dict[str, Any]) -> Turn:
    calls = tuple({"id": "", "arguments": "", **call} for call in turn.get("calls", ()))
    return Turn(turn["role"], turn["text"], calls=calls, call_id=turn.get("call_id"))


def describe(episode: Episode) -> list[dict[str, Any]]:
    """The messages of an episode for the page: place, role, text, calls, and whether it may be judged."""
    record = build_record(episode)
    start = len(episode.task.messages)
    return [
        {
            "place": place,
            "role": message["role"],
            "text": message["content"],
            "calls": [_describe_call(call) for call in message.get("tool_calls", ())],
            "answers": message.get("tool_call_id"),
            "is_answer": message["role"] == "assistant" and place >= start,
        }
        for place, message in enumerate(record["messages"])
    ]


def _describe_call(call: dict[str, Any]) -> dict[str, str]:
    inner = call.get("function", call)
    arguments = inner.get("arguments", "")
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return {"id": str(call.get("id", "")), "name": str(inner.get("name", "")), "arguments": text}
