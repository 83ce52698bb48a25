"""Rows in, episodes out; and one clear fault for everything that is wrong."""

import json
import math
from pathlib import Path

import pytest

from feedback.faults import DataError
from feedback.readers import read, read_tasks, read_with_report

GOOD = {"id": "a", "task": "t", "prompt": "What is 1 + 1?", "response": "3", "score": 0.0, "critique": "It is 2."}


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_a_row_becomes_an_episode(tmp_path):
    row = GOOD | {"revision": "2", "reference": "2", "annotator": 7, "source": "llm", "level": 3}
    (episode,) = read(lines(tmp_path / "f.jsonl", row))
    assert (episode.id, episode.task.key, episode.response, episode.score) == ("a", "t", "3", 0.0)
    assert (episode.critique, episode.revision, episode.task.reference) == ("It is 2.", "2", "2")
    assert episode.task.messages == ({"role": "user", "content": "What is 1 + 1?"},)
    assert (episode.feedback[0].annotator, episode.feedback[0].source) == ("7", "llm")
    assert episode.task.meta == {"level": 3}


def test_an_absent_score_is_nan_and_never_0(tmp_path):
    (episode,) = read(lines(tmp_path / "f.jsonl", {"id": 1, "prompt": "p", "response": "r"}))
    assert episode.feedback == () and math.isnan(episode.score)


def test_rows_group_by_task_else_by_equal_prompt_and_share_hints(tmp_path):
    rows = [{"id": n, "prompt": "p", "response": "r", "critique": said} for n, said in enumerate(["x", "y", "x"])]
    rows.append({"id": 3, "prompt": [{"role": "user", "content": "p"}], "response": "r"})
    episodes = read(lines(tmp_path / "f.jsonl", *rows))
    assert len({episode.task.key for episode in episodes}) == 1
    assert {episode.task.hints for episode in episodes} == {("x", "y")}


def test_a_declared_scale_maps_to_0_1(tmp_path):
    rows = [GOOD | {"id": n, "score": n} for n in (1, 2, 5)]
    assert [e.score for e in read(lines(tmp_path / "f.jsonl", *rows), scale=(1, 5))] == [0, 0.25, 1]


BAD = {
    "score that is NaN": ('{"id": 1, "prompt": "p", "response": "r", "score": NaN}', "score", "got nan"),
    "score without end": ('{"id": 1, "prompt": "p", "response": "r", "score": 1e999}', "score", "got inf"),
    "score as text": ({"prompt": "p", "response": "r", "score": "0.5"}, "score", "got '0.5'"),
    "score as bool": ({"prompt": "p", "response": "r", "score": True}, "score", "got True"),
    "no response": ({"prompt": "p"}, "response", "got nothing"),
    "empty response": ({"prompt": "p", "response": ""}, "response", "got ''"),
    "no prompt": ({"response": "r"}, "prompt", "got nothing"),
    "response of another type": ({"prompt": "p", "response": 3}, "response", "got 3, expected text"),
    "critique of another type": ({"prompt": "p", "response": "r", "critique": ["x"]}, "critique", "got ['x']"),
    "bad JSON": ('{"id": 1,', "record", "bad JSON"),
    "a key twice": ('{"id": 1, "id": 2}', "record", "twice"),
    "not an object": ("[1]", "record", "a JSON list"),
    "half a surrogate": (r'{"prompt": "\ud800", "response": "r"}', "record", "surrogate"),
    "unknown role": ({"prompt": [{"role": "root", "content": "p"}], "response": "r"}, "prompt[0].role", "'root'"),
    "answer in the prompt": (
        {"prompt": [{"role": "assistant", "content": "p"}], "response": "r"},
        "prompt[-1]",
        "user",
    ),
    "unknown source": ({"prompt": "p", "response": "r", "source": "web"}, "source", "one of human, llm"),
    "same id": (GOOD, "id", "line 1 has this one"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_is_named_by_line_field_and_value(tmp_path, name):
    row, field, said = BAD[name]
    path = lines(tmp_path / "f.jsonl", GOOD, "", row)
    with pytest.raises(DataError) as caught:
        read(path)
    assert caught.value.line == 3 and caught.value.field.startswith(field)
    assert str(caught.value).startswith(f"{path}:3: {field}") and said in str(caught.value)
    assert "\n" not in str(caught.value)
    episodes, refused = read_with_report(path, lenient=True)
    assert (len(episodes), len(refused)) == (1, 1)


def test_files_that_are_none(tmp_path):
    for path, said in [(tmp_path / "absent.jsonl", "nothing there"), (tmp_path, "directory")]:
        with pytest.raises(DataError, match=said):
            read(path)
    for content, said in [
        (b"", "empty file"),
        (b"\n \n", "no record"),
        ("é\n".encode("latin-1"), "0xe9"),
        ("é".encode("utf-16"), "UTF-16"),
    ]:
        path = tmp_path / "f.jsonl"
        path.write_bytes(content)
        with pytest.raises(DataError, match=said):
            read(path)


def test_an_undeclared_scale_is_refused_with_the_range_seen(tmp_path):
    rows = [GOOD | {"id": n, "score": n} for n in (1, 2, 5)] + [{"id": 9, "prompt": "p", "response": "r"}]
    path = lines(tmp_path / "f.jsonl", *rows)
    with pytest.raises(DataError, match=r"scores run from 1 to 5.*Declare the scale"):
        read(path)
    episodes, refused = read_with_report(path, lenient=True)
    assert ([e.id for e in episodes], [fault.line for fault in refused]) == (["9"], [1, 2, 3])
    with pytest.raises(DataError, match="got 5.0, expected a number from 1 to 4"):
        read(path, scale=(1, 4))
    with pytest.raises(ValueError, match="lowest < highest"):
        read(path, scale=(5, 1))


def test_every_fault_of_a_record_is_kept(tmp_path):
    _, (fault,) = read_with_report(lines(tmp_path / "f.jsonl", {"score": "x"}), lenient=True)
    assert [fault.field, *(other.field for other in fault.others)] == ["prompt", "response", "score"]
    assert fault.raw == b'{"score": "x"}\n'


def test_csv_keeps_text_as_text_and_counts_physical_lines(tmp_path):
    path = tmp_path / "f.csv"
    path.write_bytes(
        b'\xef\xbb\xbfid,prompt,response,score,critique,code\r\n001,p,"two\nlines",0.5,NA,2024-01-01\r\n'
        b"\r\n002,p,r,,null,7\r\n"
    )
    first, second = read(path)
    assert (first.id, first.response, first.score, first.critique) == ("001", "two\nlines", 0.5, "NA")
    assert (second.critique, second.task.meta, math.isnan(second.score)) == ("null", {"code": "7"}, True)
    path.write_text('id,prompt,response,score\n1,p,"a\nb",0\n2,p,c,nan\n3,p\n')
    _, refused = read_with_report(path, lenient=True)
    assert [(fault.line, fault.field) for fault in refused] == [(4, "score"), (5, "record")]
    assert refused[0].raw == b"2,p,c,nan\n"
    path.write_text('id,prompt,response\n1,p,"never closed\n2,p,r\n')
    with pytest.raises(DataError, match="unexpected end of data"):
        read(path)


def test_parquet_counts_rows_from_0(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    chat = [{"role": "user", "content": "p"}]
    rows = [{"id": "x", "prompt": chat, "response": "r", "score": 1.0}, {"id": "y", "prompt": chat, "score": 0.5}]
    path = tmp_path / "f.parquet"
    parquet.write_table(arrow.Table.from_pylist(rows), path)
    episodes, (fault,) = read_with_report(path, lenient=True)
    assert (episodes[0].score, fault.line, fault.where) == (1.0, 1, f"{path} row 1")
    path.write_bytes(b"PAR1 and nothing else")
    with pytest.raises(DataError, match="unreadable"):
        read(path)


def test_tasks_need_no_response(tmp_path):
    path = lines(tmp_path / "f.jsonl", {"id": "h1", "prompt": "p", "reference": "4", "expression": "2 + 2"})
    (task,) = read_tasks(path)
    assert (task.reference, task.meta) == ("4", {"expression": "2 + 2", "id": "h1"})
    with pytest.raises(DataError, match="prompt"):
        read_tasks(lines(path, {"id": "h1"}))


def test_unknown_formats_are_refused(tmp_path):
    with pytest.raises(ValueError, match="expected one of auto, .*shepherd.*rows"):
        read(lines(tmp_path / "f.jsonl", GOOD), format="xml")
