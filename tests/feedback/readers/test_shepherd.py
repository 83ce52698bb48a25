"""Real human feedback: both Shepherd files, every record."""

import os
from collections import Counter
from pathlib import Path

import pytest

from feedback.faults import DataError
from feedback.readers import read, read_with_report
from tests.helpers.paths import ROOT

SHEPHERD = Path(os.environ.get("FDT_SHEPHERD", ROOT.parent / "shared" / "data" / "shepherd"))
RAW, FLAT = SHEPHERD / "human_data_raw.jsonl", SHEPHERD / "human_data_for_model.jsonl"
here = pytest.mark.skipif(not RAW.is_file(), reason="the Shepherd files are not here (CC BY-NC; set FDT_SHEPHERD)")

RECORD = """{"id": 4, "dataset": "D", "annotator": "ann", "metadata": {"context": "q", "output_candidate": "a",
"output_correct": "c"}, "latestLabel": {"jsonResponse": {
"CLASSIFICATION_JOB": {"categories": [{"name": "2_NOT_JUSTIFIED_ENOUGH"}]},
"CLASSIFICATION_JOB_1": {"categories": [{"name": "5_ANSWERS_THE_QUESTION"}]},
"CLASSIFICATION_JOB_0": {"categories": [{"name": "VERACITY", "children": {"T_1": {"text": "false"}}},
{"name": "ARITHMETIC", "children": {"T_2": {"text": "3, not 4"}}}]},
"CLASSIFICATION_JOB_2": {"categories": [{"name": "INAPPROPRIATE_CONTENT", "children": {"T_0": {"text": "rude"}}}]}
}}}""".replace("\n", "")


def test_one_annotation(tmp_path):
    path = tmp_path / "f.jsonl"
    path.write_text(RECORD + "\n")
    (episode,) = read(path)
    assert (episode.id, episode.task.reference, episode.response, episode.revision) == ("4", "c", "a", "c")
    assert [(item.name, item.text) for item in episode.feedback if item.text] == [
        ("VERACITY", "false"),
        ("ARITHMETIC", "3, not 4"),
    ]
    assert {item.name: item.score for item in episode.feedback[:2]} == {"justified": 0.25, "correct": 1.0}
    assert episode.score == 0.625 and {item.annotator for item in episode.feedback} == {"ann"}
    assert episode.task.meta == {"dataset": "D", "flags": [{"name": "INAPPROPRIATE_CONTENT", "text": "rude"}]}
    with pytest.raises(ValueError, match="carry their own"):
        read(path, scale=(1, 5))


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("2_NOT_JUSTIFIED", "9_NOT_JUSTIFIED", "latestLabel.jsonResponse.CLASSIFICATION_JOB"),
        ('"output_candidate": "a"', '"output_candidate": null', "metadata.output_candidate"),
        ('{"text": "false"}', '{"text": 3}', "latestLabel.jsonResponse.CLASSIFICATION_JOB_0.categories.children"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, old, new, field):
    path = tmp_path / "f.jsonl"
    path.write_text(RECORD + "\n" + RECORD.replace(old, new).replace('"id": 4', '"id": 5') + "\n")
    with pytest.raises(DataError) as caught:
        read(path)
    assert (caught.value.line, caught.value.field) == (2, field)


@here
def test_all_raw_records_are_read():
    episodes, refused = read_with_report(RAW, lenient=True)
    assert (len(episodes), len(refused)) == (1317, 0)
    named = Counter((item.name, item.score) for episode in episodes for item in episode.feedback if item.text is None)
    assert [named["justified", mark / 4] for mark in range(5)] == [207, 740, 253, 112, 5]
    assert [named["correct", mark / 4] for mark in range(5)] == [181, 573, 373, 177, 13]
    kinds = Counter(item.name for episode in episodes for item in episode.feedback if item.text is not None)
    assert kinds == {
        "COHERENCE_AND_DEDUCTION": 875,
        "COMMONSENSE": 226,
        "REDUNDANCY": 178,
        "ARITHMETIC": 161,
        "VERACITY": 143,
        "CONSISTENCY_WITH_CONTEXT": 120,
    }
    assert len({episode.task.key for episode in episodes}) == 1316
    assert all(episode.revision and episode.critique for episode in episodes)
    assert sum(len(episode.task.meta.get("flags", [])) for episode in episodes) == 26


@here
def test_all_flat_records_are_read_and_agree_with_the_raw_ones():
    raw, flat = read(RAW), read(FLAT, format="shepherd")
    assert len(flat) == 1317 and all(episode.critique for episode in flat)
    assert [(e.id, e.task.key, e.response) for e in raw] == [(e.id, e.task.key, e.response) for e in flat]
