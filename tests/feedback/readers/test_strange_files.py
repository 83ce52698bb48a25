"""Files that are not what their names say, and tables as spreadsheets leave them: read, or refused in one message."""

import gzip
import json

import pytest

from feedback.faults import DataError
from feedback.readers import read, read_with_report
from feedback.readers.tables.text import find_delimiter

TABLE = "prompt,response,score\np,a,1\np,b,0\n"
ROWS = [{"prompt": "p", "response": "a", "score": 1}, {"prompt": "p", "response": "b", "score": 0}]


def read_answers(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return [(episode.response, episode.score) for episode in read(path)]


@pytest.mark.parametrize("name", ["f.jsonl", "f.ndjson"])
def test_a_table_is_seen_in_spite_of_its_name(tmp_path, name):
    assert read_answers(tmp_path / name, TABLE) == [("a", 1), ("b", 0)]
    with pytest.raises(DataError, match="The nearest fit: --map prompt=Question response=Answer"):
        read_answers(tmp_path / name, "Question,Answer,Rating\np,a,1\n")
    with pytest.raises(DataError, match="bad JSON"):
        read_answers(tmp_path / name, 'so, "prompt": "p", "response": "a"}\n{"prompt": "p", "response": "b"}\n')


@pytest.mark.parametrize("name", ["f.txt", "f", "f.dat", "f.csv"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_of_any_name_is_read(tmp_path, name, delimiter):
    assert read_answers(tmp_path / name, TABLE.replace(",", delimiter)) == [("a", 1), ("b", 0)]


def test_a_packed_table_of_any_name_is_read(tmp_path):
    assert read_answers(tmp_path / "f.gz", gzip.compress(TABLE.encode())) == [("a", 1), ("b", 0)]


@pytest.mark.parametrize("name", ["f.jsonl", "f.txt", "f", "f.json"])
@pytest.mark.parametrize("indent", [None, 2])
def test_a_json_document_of_any_name_is_read(tmp_path, name, indent):
    assert read_answers(tmp_path / name, json.dumps(ROWS, indent=indent)) == [("a", 1), ("b", 0)]
    assert read_answers(tmp_path / name, json.dumps(ROWS[0], indent=indent)) == [("a", 1)]


@pytest.mark.parametrize("name", ["f.csv", "f.txt", "f.tsv"])
def test_json_lines_of_any_name_are_read(tmp_path, name):
    content = "\ufeff" + "".join(json.dumps(row) + "\n" for row in ROWS)
    assert read_answers(tmp_path / name, content) == [("a", 1), ("b", 0)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (TABLE.encode("utf-16-le"), "zero bytes, as UTF-16"),
        (TABLE.encode("utf-32"), "got UTF-32"),
        (b"BZh91AY&SY", "packed with bzip2"),
        (b"\xfd7zXZ\0", "packed with xz"),
        (b"\x28\xb5\x2f\xfd\0", "packed with zstandard"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "a workbook"),
        (b"SQLite format 3\0", "a database of SQLite"),
        (b"\x80\x04\x95\x10\0", "a pickle"),
        (b"\xff\xff\xff\xff\x10\0\0\0", "an Arrow file"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    ],
)
@pytest.mark.parametrize("name", ["f.csv", "f.jsonl", "f"])
def test_what_is_no_feedback_is_refused_by_its_name(tmp_path, content, said, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=said):
        read_with_report(tmp_path / name, lenient=True)


@pytest.mark.parametrize(
    "content",
    [
        "prompt,response,score,,\np,a,1,,\np,b,0,,\n",
        "prompt,response,score\np,a,1,,\np,b,0,\n",
        ",,\nprompt,response,score\np,a,1\n,,\n\np,b,0\n,,\n",
        '"sep=;"\r\nprompt;response;score\r\np;a;1\r\np;b;0\r\n',
    ],
)
def test_empty_cells_that_spreadsheets_leave_are_nothing(tmp_path, content):
    assert read_answers(tmp_path / "f.csv", content) == [("a", 1), ("b", 0)]


@pytest.mark.parametrize("header", ["task,one;prompt;response;score", '"task, one";"prompt";"response";"score"'])
def test_a_comma_in_a_header_of_semicolons_is_none_that_parts_it(tmp_path, header):
    (tmp_path / "f.csv").write_text(f"{header}\nt;p;a;0,5\n")
    (episode,) = read(tmp_path / "f.csv")
    assert (episode.response, episode.score) == ("a", 0.5)
    assert list(episode.task.meta) == [header.replace('"', "").partition(";")[0]]


@pytest.mark.parametrize(
    ("delimiter", "header", "row"),
    [
        (
            ",",
            "prompt,response,reference,|",
            'p,a|,"\n",x',
        ),  # known names go before a bar in a name, as we write it ourselves
        (";", "Frage;Note, Wert;Antwort", '"erste\nzweite";1;a'),  # the row goes over two lines
    ],
)
def test_what_parts_a_table_is_seen_from_whole_rows(delimiter, header, row):
    assert find_delimiter(f"{header}\n{row}\n".encode()) == delimiter


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("My export,,\n" + TABLE, "Remove what stands above the header"),
        (TABLE.replace("\n", "\r"), "line ends of Unix or Windows"),
        ("prompt,response,score\np,a\n", "Write the empty cells too"),
        ("prompt,response,score,\np,a,1,more\n", "got 4 cells, expected 3"),
    ],
)
def test_what_is_wrong_with_a_table_has_its_own_remedy(tmp_path, content, said):
    (tmp_path / "f.csv").write_bytes(content.encode())
    with pytest.raises(DataError, match=said):
        read(tmp_path / "f.csv")


@pytest.mark.parametrize(
    ("document", "place"),
    [
        ({"data": ROWS}, "data"),
        ({"object": "list", "data": ROWS, "has_more": False}, "data"),
        ({"version": 3, "results": {"stats": {"n": 2}, "results": ROWS}}, "results.results"),
    ],
)
def test_rows_inside_an_object_are_told_by_their_place(tmp_path, document, place):
    (tmp_path / "f.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match=f"one object that holds the rows in '{place}'.*jq '.{place}'"):
        read(tmp_path / "f.json")
