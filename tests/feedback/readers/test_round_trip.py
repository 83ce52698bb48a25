"""Record to file to record gives the same, for every shape and format; any bytes give records or faults, nothing else.

Over ten thousand cases: `cases(n)` counts those of a test, times its parameters.
"""

import json
import math
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedback.faults import DataError
from feedback.readers import read, read_tasks, read_with_report, stream
from feedback.readers.base import Reader
from feedback.readers.catalogue import READERS
from feedback.readers.fast_rows import COLUMNS, FAST
from feedback.readers.fields import Fields
from feedback.readers.formats.rows import Rows, build_row
from feedback.readers.record import Record, parse_json, parse_json_fast
from feedback.readers.scales import ScoreRange
from feedback.types import Episode, Feedback, Preference, Task, Turn, hash_prompt
from feedback.writers import write_episodes, write_rows

FILES = Path(__file__).parent / "files"
LINES = st.characters(exclude_categories=["Cs"])
WORDS = st.text(LINES, min_size=1, max_size=20) | st.sampled_from(
    ["NA", "null", "001", "2024-01-01", 'a,b\r\n"c"', "<|im_end|>", "\ufeff", " ", "\x00", "[1]", "x:json", '\\\\"\\']
)
ROLES = st.sampled_from(["system", "user", "assistant", "tool"])
CHATS = st.lists(st.fixed_dictionaries({"role": ROLES, "content": st.just("") | WORDS}), max_size=2).map(
    lambda earlier: [*earlier, {"role": "user", "content": "ask"}]
)


def is_note(name: str) -> bool:
    """Whether a column of this name, or a name within one, is anybody's: none of ours, not blank (as spreadsheets leave
    them), and without a word: hypothesis draws words from our code, and feedback under a name that nobody reads is
    refused."""
    known = name in ("null", "x:json", "<|im_end|>")
    return name not in COLUMNS and bool(name.strip()) and (known or not re.search("[A-Za-z]{3}", name))


NOTES = st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.just("") | WORDS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORDS.filter(is_note), inner, max_size=2),
    max_leaves=4,
)
ODD = NOTES | st.none() | st.sampled_from([float("nan"), float("inf"), 10**400, -1, 5, 2**63, [None], {"role": None}])
TEXTS = ("task", "critique", "revision", "reference", "annotator")
SOURCES = st.sampled_from(["human", "llm", "environment", "policy"])
MARKS = st.fixed_dictionaries(
    {"name": WORDS, "value": st.integers(1, 5), "min": st.just(1), "max": st.just(5)}, optional={"annotator": WORDS}
)
COMPARED = st.fixed_dictionaries({"over": st.just("another"), "strength": st.floats(0, 1)}, optional={"text": WORDS})


def plain(items):
    """Episodes as text that is equal where they are: NaN is unequal to itself, and the order of keys says nothing."""
    return json.dumps([asdict(item) for item in items], sort_keys=True)


def cases(number: int) -> settings:
    return settings(max_examples=number * int(os.environ.get("FDT_FUZZ", "1")))  # `make soak` asks for ten times more


@st.composite
def rows(draw):
    """Canonical rows with ids of their own, every other field there or not, and notes of any JSON type."""
    found = []
    names = WORDS.filter(is_note)
    for number in range(draw(st.integers(1, 3))):
        row = {"id": f"{number}{draw(WORDS)}", "prompt": draw(WORDS | CHATS), "response": draw(WORDS)}
        row |= {name: draw(WORDS) for name in TEXTS if draw(st.booleans())}
        if draw(st.booleans()):
            row |= {"score": draw(st.floats(0, 1)), "source": draw(SOURCES)}
        if draw(st.integers(0, 3)) == 0:
            row |= {
                "scores": draw(st.lists(MARKS, min_size=1, max_size=2)),
                "preferences": draw(st.lists(COMPARED, min_size=1, max_size=2)),
            }
        found.append(row | draw(st.dictionaries(names, NOTES, max_size=3)))
    return found


def as_read(row):
    """What a row means: the defaults that reading fills in, and a lone user message as text."""
    prompt = row["prompt"] if isinstance(row["prompt"], list) else [{"role": "user", "content": row["prompt"]}]
    alone = len(prompt) == 1 and prompt[0]["content"]
    full = row | {"prompt": prompt[0]["content"] if alone else prompt, "task": row.get("task") or hash_prompt(prompt)}
    judged = {"score", "critique", "revision", "annotator", "scores"} & set(row)
    who = {"annotator": row["annotator"]} if "annotator" in row else {}
    inner = {name: [who | item for item in row[name]] for name in ("scores", "preferences") if name in row}
    if "scores" in row and not {"score", "critique", "revision"} & set(row):
        full.pop("annotator", None)  # it stands in each of the scores
    return full | inner | ({"source": row.get("source", "human")} if judged else {})


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "json", "csv", "parquet"])
@cases(300)
@given(rows())
def test_rows_come_back(ending, given_rows):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"rows.{ending}"
        write_rows(path, given_rows)
        assert [build_row(episode) for episode in stream(path, "rows")] == [as_read(row) for row in given_rows]


FLOATS = st.just(math.nan) | st.floats(0, 1)
SCALES = st.none() | st.sampled_from([(1.0, 5.0), (-1.0, 1.0), (0.0, 10.0)])
CALLS = st.lists(st.fixed_dictionaries({"id": WORDS, "name": WORDS, "arguments": st.just("") | WORDS}), max_size=2)
METAS = st.dictionaries(WORDS, NOTES, max_size=2)


ROWS_OF_SCORES = st.lists(st.lists(st.floats(0, 1), max_size=2).map(tuple), max_size=2).map(tuple)
NOTES_OF = {
    "finished": st.booleans(),
    "end_reason": WORDS,
    "sibling": WORDS,
    "revision_status": WORDS,
    "is_rewrite": st.booleans(),
    "unscored": WORDS,
    "turn_tags": st.lists(st.integers(0, 4), max_size=2).map(tuple),
    "set_rewards": ROWS_OF_SCORES,
    "process_scores": ROWS_OF_SCORES,
    "measures": st.dictionaries(WORDS, st.floats(allow_nan=False, allow_infinity=False), max_size=2),
}


@st.composite
def dialogues(draw):
    """Episodes of any number of turns, with all that their types can hold."""
    turns = [draw(turn_of("assistant"))]
    for _ in range(draw(st.integers(0, 2))):
        turns += [Turn(draw(st.sampled_from(["user", "system"])), draw(WORDS)), draw(turn_of("assistant"))]
    turns = turns if draw(st.booleans()) else [*turns, Turn("tool", draw(WORDS), call_id=draw(st.none() | WORDS))]
    steps = st.none() | st.integers(0, sum(turn.role == "assistant" for turn in turns) - 1)
    text = st.none() | WORDS
    items = st.builds(Feedback, SOURCES, text, WORDS, FLOATS, text, steps, text)
    messages = tuple(draw(CHATS))
    task = Task(draw(WORDS), messages, draw(text), meta=draw(METAS))
    preferences = draw(st.lists(st.builds(Preference, st.just("another"), st.floats(0, 1), text, text), max_size=2))
    feedback = tuple(draw(st.lists(items, max_size=3)))
    notes = draw(st.fixed_dictionaries({}, optional=NOTES_OF))
    return Episode(draw(WORDS), task, tuple(turns), feedback, tuple(preferences), **notes)


def turn_of(role):
    sampled = st.none() | st.lists(st.integers(0, 2**31 - 1), max_size=3).map(tuple)
    return st.builds(
        lambda text, ids, calls: Turn(
            role, text, ids, None if ids is None else (-0.5,) * len(ids), ids is not None, tuple(calls)
        ),
        st.just("") | WORDS,
        sampled,
        CALLS,
    )


@pytest.mark.parametrize("ending", ["jsonl", "json", "json.gz", "parquet"])
@cases(300)
@given(dialogues())
def test_episodes_come_back(ending, episode):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"episodes.{ending}"
        write_episodes(path, [episode])
        assert plain(stream(path, "episodes")) == plain([episode])


@cases(300)
@given(st.sampled_from([(1.0, 5.0), (-1.0, 1.0), (0.0, 10.0), (0.1, 0.7)]), st.floats(0, 1))
def test_scores_come_back_from_their_scale(scale, share):
    low, high = scale
    mark = min(low + share * (high - low), high)
    item = Feedback(name="quality", score=(mark - low) / (high - low), scale=scale)
    episode = Episode("a", Task("t", ({"role": "user", "content": "p"},)), (Turn("assistant", "r"),), (item,))
    with tempfile.TemporaryDirectory() as folder:
        write_episodes(Path(folder) / "f.jsonl", [episode])
        (found,) = read(Path(folder) / "f.jsonl")
    assert found.feedback[0].score == item.score


def samples() -> Iterator[tuple[Reader, dict]]:
    """A sound record of every format."""
    named = {reader.name: reader for reader in READERS}
    for path in sorted(FILES.iterdir()):
        stem = path.name.partition(".")[0]
        name = {"openclaw_record": "openclaw", "openai-chat": "episodes"}.get(stem, stem)
        if name in named and name != "oasst-messages":
            text = path.read_text()
            whole = json.loads(text if path.suffix in (".json", ".traj") else text.splitlines()[0])
            yield named[name], whole[0] if isinstance(whole, list) else whole
    job = {"categories": [{"name": "2_X", "children": {"T": {"text": "said"}}}]}
    names = ("CLASSIFICATION_JOB", "CLASSIFICATION_JOB_0", "CLASSIFICATION_JOB_1")
    label = {"jsonResponse": dict.fromkeys(names, job)}
    yield (
        named["shepherd"],
        {"id": 1, "latestLabel": label, "metadata": {"context": "q", "output_candidate": "a", "output_correct": "c"}},
    )
    yield named["shepherd"], {"question": "q", "answer": "a", "feedback": "f"}


SAMPLES = list(samples())
IDS = [f"{reader.name}-{number}" for number, (reader, _) in enumerate(SAMPLES)]
WRITTEN = ("prompter", "assistant", "user", "system", "tool", "text", "human", "llm", "submitted", "function")


def reworded(value, draw):
    """The same record with other words wherever words are free."""
    if isinstance(value, dict):
        return {key: reworded(part, draw) for key, part in value.items()}
    if isinstance(value, list):
        return [reworded(part, draw) for part in value]
    return draw(WORDS) if isinstance(value, str) and value not in WRITTEN and draw(st.integers(0, 3)) == 0 else value


@pytest.mark.parametrize(("reader", "record"), SAMPLES, ids=IDS)
@cases(60)
@given(data=st.data())
def test_records_of_every_format_survive_a_file(reader, record, data):
    """Whatever its words: a record read from two kinds of file, and written as episodes, stays what it was."""
    other = reworded(record, data.draw)
    scale = (1, 5) if reader.takes_scale and reader.name not in ("rows", "episodes") else None
    with tempfile.TemporaryDirectory() as folder:
        write_rows(Path(folder) / "f.jsonl", [other])
        write_rows(Path(folder) / "f.json", [other])
        first = list(stream(Path(folder) / "f.jsonl", reader.name, scale))
        assert len(first) == 1 if isinstance(first[0], DataError) else all(isinstance(e, Episode) for e in first)
        if not isinstance(first[0], DataError):
            second = plain(stream(Path(folder) / "f.json", reader.name, scale))
            assert second.replace("line-2", "line-1") == plain(first)
            write_episodes(Path(folder) / "e.jsonl", first)
            assert plain(stream(Path(folder) / "e.jsonl", "episodes")) == plain(first)


def survives(content: bytes, ending: str, formats=("auto",)) -> None:
    """Reads the bytes as a file; anything but `DataError` fails the test, and the numbers add up."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"f.{ending}"
        path.write_bytes(content)
        for format in formats:
            refusal = None
            try:
                found = stream(path, format)
                items = list(found)
                faults = [item for item in items if isinstance(item, DataError)]
                assert found.num_loaded + found.num_rejected == found.num_records and len(faults) == found.num_rejected
                assert all("\n" not in fault.reason and fault.line is not None for fault in faults)
                str(items).encode()
            except DataError as fault:
                refusal = fault
            assert refusal is None or "\n" not in refusal.reason
        refusal = None
        try:
            read_tasks(path)
        except DataError as fault:
            refusal = fault
        assert refusal is None or refusal.expected


HEADS = [b"", b"PAR1", b"\xef\xbb\xbf", b'{"id":', b"prompt,response,score\n", b"[{", b"\x1f\x8b\x08"]


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet", "json", "jsonl.gz"])
@cases(400)
@given(head=st.sampled_from(HEADS), tail=st.binary(max_size=99), reader=st.sampled_from(READERS))
def test_any_bytes(ending, head, tail, reader):
    survives(head + tail, ending, ("auto", reader.name))


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet", "json", "jsonl.gz"])
@cases(150)
@given(given_rows=rows(), where=st.floats(0, 1), cut=st.integers(0, 9), put=st.binary(max_size=9))
def test_damaged_files(ending, given_rows, where, cut, put):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"rows.{ending}"
        write_rows(path, given_rows)
        whole = path.read_bytes()
    at = int(where * len(whole))
    survives(whole[:at] + put + whole[at + cut :], ending)


@pytest.mark.parametrize(("reader", "record"), SAMPLES, ids=IDS)
@cases(120)
@given(data=st.data())
def test_wrong_types_anywhere(reader, record, data):
    """One value of a sound record, at any depth, replaced by any other."""
    record = json.loads(json.dumps(record))
    node = record
    while True:
        keys = list(node) if isinstance(node, dict) else range(len(node))
        key = data.draw(st.sampled_from(keys))
        if not node[key] or not isinstance(node[key], (dict, list)) or data.draw(st.booleans()):
            break
        node = node[key]
    node[key] = data.draw(ODD)
    survives(json.dumps(record).encode() + b"\n", "jsonl", ("auto", reader.name))


@cases(600)
@given(st.dictionaries(st.sampled_from(COLUMNS) | WORDS, WORDS | ODD, max_size=6), st.sampled_from([None, (0.0, 5.0)]))
def test_the_quick_way_says_what_the_slow_one_says(row, scale):
    sound = {"prompt": "p", "response": "r"} | row
    record = Record("f", 1, sound)
    score_range = ScoreRange(scale)
    episode = FAST.parse(record, score_range)
    fields = Fields(record, score_range)
    slow = Rows().parse(fields)
    assert episode is None or (not fields.faults and plain([episode]) == plain(slow))


@cases(600)
@given(st.dictionaries(WORDS, NOTES, max_size=4), st.binary(max_size=4), st.floats(0, 1))
def test_the_quick_decoder_reads_what_the_other_reads(value, put, where):
    raw = json.dumps(value).encode()
    at = int(where * len(raw))
    plainly = json.dumps(value, ensure_ascii=False).encode()
    for line in (raw, raw[:at] + put + raw[at:], raw[:-1] + b',"a":1,"a" : 2}', plainly):
        quick = parse_json_fast(line)
        if quick is not None:
            assert quick == parse_json(line.decode())


def test_repeated_keys_are_seen_wherever_they_stand():
    for line in (
        b'{"a": 1, "a": 1}',
        b'{"a": {"b": 1, "b" : 2}}',
        b'{"a": [{"b": "\\\\", "b": ""}]}',
        b'{"a": 1, "\\u0061": 2}',
    ):
        assert parse_json_fast(line) is None
        with pytest.raises(ValueError, match="twice"):
            parse_json(line.decode())
    assert parse_json_fast(b'{"a": "\\\\\\" \\\\", "b": "\\u00e9"}') == {"a": '\\" \\', "b": "é"}


@pytest.mark.parametrize("lenient", [True, False])
def test_reports_count_records(lenient, tmp_path):
    write_rows(tmp_path / "f.jsonl", [{"prompt": "p", "chosen": "a", "rejected": "b"}, {"prompt": "p", "chosen": "a"}])
    if lenient:
        episodes, faults = read_with_report(tmp_path / "f.jsonl", lenient=True)
        assert (len(episodes), len(faults)) == (2, 1)  # a pair is one record and two episodes
        assert [episode.score for episode in episodes] == [1, 0]
    else:
        with pytest.raises(DataError, match="rejected"):
            read(tmp_path / "f.jsonl")


@pytest.mark.parametrize("name", ["f.jsonl", "f.json", "f.csv", "f.parquet", "f.jsonl.gz"])
def test_half_a_surrogate_pair_takes_no_other_row_with_it(tmp_path, name):
    """No file can hold one: the row is written with the replacement character, and so are the thousand after it."""
    given_rows = [{"prompt": "p", "response": f"r{number}", "critique": "no"} for number in range(1000)]
    given_rows[3]["critique"] = "cut \ud83d"
    write_rows(tmp_path / name, given_rows)
    found = [episode.critique for episode in read(tmp_path / name)]
    assert len(found) == 1000 and found[3] == "cut \ufffd" and found[4] == "no"
