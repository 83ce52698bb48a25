"""That an answer was cut off is heard under the names in use, as a flag, as text and as a reason."""

import json

import pytest

from feedback.faults import DataError
from feedback.readers import read
from feedback.readers.formats.rows import build_row
from feedback.writers import write_rows

ROW = {"prompt": "Tell a story.", "response": "Once upon a", "score": 0.9}


@pytest.mark.parametrize(
    ("flag", "is_cut"),
    [
        ({"finished": False}, True),
        ({"finished": "false"}, True),
        ({"finished": True}, False),
        ({"truncated": True}, True),
        ({"is_truncated": 1}, True),
        ({"is_truncated": "FALSE"}, False),
        ({"cut_off": "yes"}, True),
        ({"is_complete": 0}, True),
        ({"finish_reason": "length"}, True),
        ({"finish_reason": "stop"}, False),
        ({"stop_reason": "max_tokens"}, True),
        ({"completed": "2024-01-01"}, False),
        ({"isTruncated": 1}, True),
        ({"Is complete": "no"}, True),
        ({"finishReason": "MAX_TOKENS"}, True),
        ({"unfinished": False}, False),
    ],
)
@pytest.mark.parametrize("shape", ["row", "completion", "episode"])
def test_names_of_cut_off(tmp_path, flag, is_cut, shape):
    chat = [{"role": "user", "content": "p"}, {"role": "assistant", "content": "r"}]
    record = {"row": ROW, "completion": {"prompt": "p", "completion": "r"}, "episode": {"messages": chat}}[shape]
    (tmp_path / "f.jsonl").write_text(json.dumps(record | flag) + "\n")
    (episode,) = read(tmp_path / "f.jsonl")
    assert episode.is_cut_off is is_cut and episode.finished is not is_cut


def test_flags_of_a_table_are_text(tmp_path):
    (tmp_path / "f.csv").write_text(
        "prompt,response,score,finished\np,a,0.9,false\np,b,0.2,true\np,c,0.9,FALSE\np,d,1,\n"
    )
    episodes = read(tmp_path / "f.csv")
    assert [episode.is_cut_off for episode in episodes] == [True, False, True, False]
    write_rows(tmp_path / "g.csv", map(build_row, episodes))
    assert [episode.is_cut_off for episode in read(tmp_path / "g.csv")] == [True, False, True, False]


def test_a_flag_that_is_neither_true_nor_false_is_refused(tmp_path):
    (tmp_path / "f.jsonl").write_text(json.dumps(ROW | {"finished": "maybe"}) + "\n")
    with pytest.raises(DataError, match="finished: got 'maybe', expected true or false"):
        read(tmp_path / "f.jsonl")
