"""A table written as one object of columns is refused in one message; a row that looks a little like one is read."""

import json

import pandas as pd
import pytest

from feedback.faults import DataError
from feedback.readers import read

FRAME = pd.DataFrame({"prompt": ["a?", "b?"], "response": ["x", "y"], "score": [0.5, 1.0]})
SAID = [{"role": "user", "content": "a?"}, {"role": "assistant", "content": "x"}]


@pytest.mark.parametrize("orient", ["columns", "split", "table", "list", "index"])
def test_an_object_of_columns_is_refused_in_one_message(tmp_path, orient):
    path = tmp_path / "f.json"
    path.write_text(json.dumps(FRAME.to_dict("list")) if orient == "list" else FRAME.to_json(orient=orient))
    with pytest.raises(DataError) as found:
        list(read(path))
    assert "an object for each row" in str(found.value) and "orient='records'" in str(found.value)
    assert not found.value.others and found.value.line is None


def test_rows_are_read_in_either_form(tmp_path):
    for name, lines in (("f.json", False), ("f.jsonl", True)):
        FRAME.to_json(tmp_path / name, orient="records", lines=lines)
        assert len(list(read(tmp_path / name))) == 2


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": SAID[:1], "response": SAID[1:]},
        {"messages": SAID},
        {"instruction": "a?", "generations": ["x", "y"], "ratings": [1, 0]},
    ],
)
def test_one_row_of_lists_is_a_row(tmp_path, row):
    (tmp_path / "f.json").write_text(json.dumps(row))
    assert list(read(tmp_path / "f.json"))


def test_what_follows_from_a_refused_part_is_not_told_again(tmp_path):
    row = {"messages": [{"role": "user", "content": 3}, {"role": "assistant", "content": "x"}], "score": "high"}
    (tmp_path / "f.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(DataError) as found:
        list(read(tmp_path / "f.jsonl"))
    assert [fault.field for fault in (found.value, *found.value.others)] == ["messages[0].content", "score"]
