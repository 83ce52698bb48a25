"""Episodes for the page's script: read as they grow, entries in numbers worked by hand, text that cannot break out."""

import base64
import gzip
import json

import pytest

from fdt.report.interactive import tokens
from fdt.report.interactive.episodes import CHUNK, EpisodeFile, build_entry
from fdt.report.interactive.script import encode_chunks, encode_json, read_script
from tests.helpers.run_folder import HOSTILE, write_lines


def episode(number: int, **more) -> dict:
    return {"step": number, "id": f"e{number}", "prompt": f"prompt {number}", "response": "a b c", **more}


def test_what_is_added_is_read_and_a_half_written_line_waits(tmp_path):
    path = tmp_path / "transcripts.jsonl"
    file = EpisodeFile(path)
    assert not file.refresh()
    write_lines(path, [episode(0)], tail='{"step": 1, "id": "e1"')
    assert file.refresh()
    assert len(file.entries) == 1
    assert not file.refresh()
    with path.open("a") as out:
        out.write(', "prompt": "late"}\n')
    assert file.refresh()
    assert [entry["id"] for entry in file.entries] == ["e0", "e1"]
    assert file.read_chunk(0)[1]["prompt"] == "late"


def test_a_resumed_run_counts_once_and_a_cut_file_is_read_anew(tmp_path):
    path = tmp_path / "transcripts.jsonl"
    write_lines(path, [episode(0), episode(1, score=0.25), episode(1, score=0.75)])
    file = EpisodeFile.of_run(tmp_path)
    assert [entry and entry["score"] for entry in file.entries] == [None, None, 0.75]
    assert file.read_chunk(0)[1] is None
    write_lines(path, [episode(5)])
    assert file.refresh()
    assert [entry["step"] for entry in file.entries] == [5.0]


def test_chunks_hold_every_episode_in_order(tmp_path):
    write_lines(tmp_path / "transcripts.jsonl", [episode(n) for n in range(CHUNK + 3)])
    file = EpisodeFile.of_run(tmp_path)
    packed = encode_chunks([file])
    assert list(packed) == ["0-0", "0-1"]
    last = json.loads(gzip.decompress(base64.b64decode(packed["0-1"])))
    assert [one["prompt"] for one in last] == [f"prompt {n}" for n in range(CHUNK, CHUNK + 3)]
    assert file.read_chunk(7) == []


def test_an_entry_says_what_episodes_are_sorted_by():
    given = [
        # before, after, and the signals of two terms: one token both push up, one they push apart, one only one moves
        {"text": "a", "logp": -1.0, "after": -0.5, "signal/policy": 1.0, "signal/distill": 0.5},
        {"text": "b", "logp": -2.0, "after": -2.25, "signal/policy": 1.0, "signal/distill": -0.5},
        {"text": "c", "logp": -1.0, "after": None, "signal/policy": 1.0, "signal/distill": 0.0},
    ]
    critics = [{"source": "human", "annotator": "ann"}, {"source": "llm", "annotator": None}]
    entry = build_entry(episode(3, tokens=given, critique_by=critics, revision_status="not better", critique="no"))
    assert entry["change"] == 0.75  # |0.5| + |-0.25|; the third token has no later value
    assert entry["disagreement"] == 0.5  # one of the two tokens that both terms move
    assert entry["who"] == ["ann", "llm"]
    assert entry["length"] == 3
    assert entry["refused"]
    assert not build_entry(episode(3, revision_status="accepted"))["refused"]
    assert not build_entry(episode(3, revision_status="no critique"))["refused"]


def test_change_is_the_teachers_where_no_later_value_was_recorded():
    assert tokens.compute_change([{"logp": -1.0, "teacher_logp": -3.0}]) == 2.0
    assert tokens.compute_change([{"text": "x"}]) is None
    assert tokens.compute_disagreement([{"signal/policy": 1.0}]) is None


@pytest.mark.parametrize("text", [HOSTILE, "</script><script>alert(1)</script>", "<!--<script>", "\u2028"])
def test_data_cannot_end_its_element(text):
    encoded = encode_json({"a": text.encode("utf-8", "replace").decode()})
    assert not {"<", ">", "&", "\u2028"} & set(encoded)
    assert json.loads(encoded)["a"] == text.encode("utf-8", "replace").decode()


def test_the_script_holds_nothing_that_ends_its_element():
    assert "</script" not in read_script().lower()
    assert "<!--" not in read_script()
    assert "\r" not in read_script()
