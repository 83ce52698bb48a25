"""Record to file to record gives the same; any bytes give records or a fault, and nothing else."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.faults import DataFault
from feedback.readers import read, read_tasks, read_with_report
from feedback.readers.rows import COLUMNS, row_of
from feedback.types import prompt_key
from feedback.writers import write_rows

WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20) | st.sampled_from(
    ["NA", "null", "001", "2024-01-01", "a,b\r\n\"c\"", "<|im_end|>", "\ufeff", " ", "\x00", "[1]", "x:json"])
ROLES = st.sampled_from(["system", "user", "assistant", "tool"])
CHATS = st.lists(st.fixed_dictionaries({"role": ROLES, "content": st.just("") | WORDS}), max_size=2).map(
    lambda earlier: [*earlier, {"role": "user", "content": "ask"}])
NOTES = st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.just("") | WORDS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORDS, inner, max_size=2), max_leaves=4)
NAMES = WORDS.filter(lambda name: name not in (*COLUMNS, "scores", "preferences"))
TEXTS = ("task", "critique", "revision", "reference", "annotator")


@st.composite
def rows(draw):
    """Canonical rows with ids of their own, every other field there or not, and notes of any JSON type."""
    found = []
    for number in range(draw(st.integers(1, 4))):
        row = {"id": f"{number}{draw(WORDS)}", "prompt": draw(WORDS | CHATS), "response": draw(WORDS)}
        row |= {name: draw(WORDS) for name in TEXTS if draw(st.booleans())}
        if draw(st.booleans()):
            row |= {"score": draw(st.floats(0, 1)), "source": draw(st.sampled_from(["human", "llm", "environment"]))}
        found.append(row | draw(st.dictionaries(NAMES, NOTES, max_size=3)))
    return found


def as_read(row):
    """What a row means: the defaults that reading fills in, and a lone user message as text."""
    prompt = row["prompt"] if isinstance(row["prompt"], list) else [{"role": "user", "content": row["prompt"]}]
    alone = len(prompt) == 1 and prompt[0]["content"]
    full = row | {"prompt": prompt[0]["content"] if alone else prompt, "task": row.get("task") or prompt_key(prompt)}
    judged = {"score", "critique", "revision", "annotator"} & set(row)
    return full | ({"source": row.get("source", "human")} if judged else {})


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
@given(rows())
def test_rows_come_back(ending, given_rows):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"rows.{ending}"
        write_rows(path, given_rows)
        assert [row_of(episode) for episode in read(path)] == [as_read(row) for row in given_rows]


def survives(content: bytes, ending: str) -> None:
    """Reads the bytes as every kind of file; anything but `DataFault` fails the test."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"f.{ending}"
        path.write_bytes(content)
        for format in ("auto", "rows", "shepherd"):
            try:
                episodes, refused = read_with_report(path, format, lenient=True)
                assert len(episodes) + len(refused) > 0
                assert all("\n" not in fault.reason and fault.line is not None for fault in refused)
                str(episodes).encode()
            except DataFault as fault:
                assert "\n" not in fault.reason
        try:
            read_tasks(path)
        except DataFault as fault:
            assert fault.expected


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
@given(head=st.sampled_from([b"", b"PAR1", b"\xef\xbb\xbf", b'{"id":', b"prompt,response,score\n"]), tail=st.binary(max_size=99))
def test_any_bytes(ending, head, tail):
    survives(head + tail, ending)


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
@given(given_rows=rows(), where=st.floats(0, 1), cut=st.integers(0, 9), put=st.binary(max_size=9))
def test_damaged_files(ending, given_rows, where, cut, put):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"rows.{ending}"
        write_rows(path, given_rows)
        whole = path.read_bytes()
    at = int(where * len(whole))
    survives(whole[:at] + put + whole[at + cut:], ending)


SHEPHERD = {"id": 1, "metadata": {"context": "q", "output_candidate": "a", "output_correct": "c"}, "latestLabel": {
    "jsonResponse": {name: {"categories": [{"name": "2_X", "children": {"T": {"text": "said"}}}]}
                     for name in ("CLASSIFICATION_JOB", "CLASSIFICATION_JOB_0", "CLASSIFICATION_JOB_1")}}}


@given(st.data())
def test_wrong_types_anywhere(data):
    """One value of a sound record, at any depth, replaced by any other."""
    record = json.loads(json.dumps(data.draw(st.sampled_from(
        [SHEPHERD, {"question": "q", "answer": "a", "feedback": "f"},
         {"id": "1", "prompt": [{"role": "user", "content": "p"}], "response": "r", "score": 0.5, "source": "llm"}]))))
    node = record
    while True:
        keys = list(node) if isinstance(node, dict) else range(len(node))
        key = data.draw(st.sampled_from(keys))
        if not node[key] or not isinstance(node[key], (dict, list)) or data.draw(st.booleans()):
            break
        node = node[key]
    node[key] = data.draw(NOTES | st.none() | st.sampled_from([float("nan"), float("inf"), 10**400, -1, 5]))
    survives(json.dumps(record).encode() + b"\n", "jsonl")
