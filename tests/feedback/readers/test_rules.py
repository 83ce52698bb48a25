"""The rules of a whole file: several annotators, comparisons, and what a first pass must find."""

import gzip
import json
import math

import pytest

from feedback.aggregate import add_win_rates, aggregate_scores, measure_disagreement
from feedback.faults import DataError
from feedback.readers import read, read_with_report, stream
from feedback.readers.ids import IdIndex
from feedback.types import Episode, Feedback, Preference, Task, Turn

TASK = Task("t", ({"role": "user", "content": "p"},))


def episode(name: str, *scores: float, preferences: tuple[Preference, ...] = ()) -> Episode:
    items = tuple(Feedback(annotator=f"a{n}", score=score) for n, score in enumerate(scores))
    return Episode(name, TASK, (Turn("assistant", name),), items, preferences=preferences)


@pytest.mark.parametrize(("rule", "score"), [("mean", 0.625), ("majority", 0.75), ("first", 0.25), ("each", 0.625)])
def test_scores_of_several_annotators_become_one_by_rule(rule, score):
    given = episode("x", 0.25, 0.75, 0.75, 0.75)  # mean (0.25 + 3 * 0.75) / 4
    (found,) = aggregate_scores([given], rule)
    assert found.score == score and len(found.feedback) == (4 if rule == "each" else 1)


def test_majority_takes_the_mean_of_those_that_tie():
    assert aggregate_scores([episode("x", 0, 1, 1, 0, 0.3)], "majority")[0].score == 0.5


def test_words_and_their_annotators_stay_when_scores_are_taken_together():
    items = (
        Feedback(annotator="kim", score=0.5, text="So."),
        Feedback(annotator="lee", score=1.0),
        Feedback("llm", "judge", score=0.0),
        Feedback(name="style", score=1.0, text="Nice."),
    )
    (found,) = aggregate_scores([Episode("x", TASK, (), items)])
    scored = [item for item in found.feedback if not math.isnan(item.score)]
    kept = [(item.source, item.annotator, item.name, item.score) for item in scored]
    assert kept == [("human", None, "score", 0.75), ("llm", "judge", "score", 0.0), ("human", None, "style", 1.0)]
    assert [(item.annotator, item.text) for item in found.feedback if item.text] == [("kim", "So."), (None, "Nice.")]


def test_disagreement_is_counted_and_warned_about(tmp_path):
    differ = measure_disagreement([episode("x", 0.5, 1.0), episode("y", 0.5, 0.5), episode("z", 0.5)])
    assert (differ.num_multiple, differ.num_unequal, differ.spread) == (2, 1, 0.25)  # (0.5 + 0) / 2
    scores = [{"value": 0, "annotator": "kim"}, {"value": 1, "annotator": "lee"}]
    row = {"prompt": "p", "response": "r", "scores": scores}
    (tmp_path / "f.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.warns(UserWarning, match="1 of 1 scored several times differ, on average by 1.00"):
        (found,) = read(tmp_path / "f.jsonl")
    assert found.score == 0.5
    with pytest.raises(DataError, match="one of mean, majority, first, each"):
        read(tmp_path / "f.jsonl", aggregate="median")


def test_win_rate_is_the_mean_over_all_comparisons():
    rows = [
        episode("a", preferences=(Preference("b"), Preference("c", 0.5))),
        episode("b"),
        episode("c", preferences=(Preference("b", 0.25),)),
        episode("d"),
    ]
    found = {each.id: each.score for each in add_win_rates(rows)}
    # a: (1 + 0.5) / 2, b: (0 + 0.75) / 2, c: (0.5 + 0.25) / 2; d was not compared
    assert [found[name] for name in "abc"] == [0.75, 0.375, 0.375] and math.isnan(found["d"])


def test_scores_of_their_own_go_before_win_rates():
    rows = [episode("a", 0.9, preferences=(Preference("b"),)), episode("b", 0.4)]
    assert add_win_rates(rows) == rows


def test_a_scale_of_an_item_goes_before_the_declared_one(tmp_path):
    row = {"prompt": "p", "response": "r", "score": 4, "scores": [{"name": "tone", "value": 0, "min": -1, "max": 1}]}
    (tmp_path / "f.jsonl").write_text(json.dumps(row) + "\n")
    (found,) = read(tmp_path / "f.jsonl", scale=(0, 5))
    assert [(item.name, item.score, item.scale) for item in found.feedback] == [
        ("score", 0.8, (0, 5)),
        ("tone", 0.5, (-1, 1)),
    ]


def test_an_undeclared_score_far_below_refuses_the_first_one(tmp_path):
    rows = [{"prompt": "p", "response": "r", "score": 1}] * 50 + [{"prompt": "p", "response": "r", "score": 5}]
    (tmp_path / "f.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    first = next(stream(tmp_path / "f.jsonl"))
    assert isinstance(first, DataError) and "scores run from 1 to 5" in str(first)


def test_ids_that_repeat_are_refused_where_they_repeat(tmp_path):
    rows = [{"id": name, "prompt": "p", "response": "r"} for name in ("a", "b", 7, "a", "7", "line-6", "c")]
    rows[5].pop("id")  # its place, line-6, is its name: nobody else has it
    (tmp_path / "f.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found, faults = read_with_report(tmp_path / "f.jsonl", lenient=True)
    assert [each.id for each in found] == ["a", "b", "7", "line-6", "c"]
    assert [(fault.line, "line 1" in fault.reason) for fault in faults] == [(4, True), (5, False)]


def test_names_keep_only_what_may_repeat():
    names = IdIndex()
    for name in ("a", "b", "a"):
        names.add_id(name)
    names.keep_repeated()
    assert [names.find_duplicate(name, line) for line, name in enumerate(("a", "b", "a"), 1)] == [None, None, 1]


def test_json_documents_count_physical_lines_and_stop_at_a_mistake(tmp_path):
    path = tmp_path / "f.json"
    path.write_text('[\n {"prompt": "p",\n  "response": "r"},\n {"prompt": "q"},\n {"prompt" 1}\n]\n')
    found, faults = read_with_report(path, lenient=True)
    assert len(found) == 1 and [(fault.line, fault.field) for fault in faults] == [(4, "response"), (5, "record")]
    path.write_text('{"prompt": "p",\n "response": "r"}\n')
    assert [each.id for each in read(path)] == ["line-1"]
    for wrong in ('[{"prompt": "p", "response": "r"},]', '[{"prompt": "p", "response": "r"} {}]', "[] []", "[1]"):
        path.write_text(wrong)
        assert all(isinstance(item, Episode) for item in list(stream(path))[:-1])
        assert isinstance(list(stream(path))[-1], DataError)


def test_a_packed_file_that_breaks_off_is_one_fault(tmp_path):
    path = tmp_path / "f.jsonl.gz"
    packed = gzip.compress("".join(json.dumps({"prompt": str(n), "response": "r"}) + "\n" for n in range(999)).encode())
    path.write_bytes(packed)
    assert len(read(path)) == 999
    path.write_bytes(packed[:-20])
    with pytest.raises(DataError, match="breaks off"):
        read(path)


def test_data_sets_on_disk_and_names_of_the_hub(tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = [
        {"id": "001", "prompt": "p", "response": "r", "score": 0.5},
        {"id": "002", "prompt": "p", "response": None, "score": math.nan},
    ]
    datasets.Dataset.from_list(rows).save_to_disk(str(tmp_path / "one"))
    found, (fault,) = read_with_report(tmp_path / "one", lenient=True)
    assert ([each.id for each in found], fault.line, fault.unit, fault.field) == (["001"], 1, "row", "response")
    assert [other.field for other in fault.others] == ["score"]  # NaN is not taken for a number
    parts = {"train": rows[:1], "test": rows}
    both = datasets.DatasetDict({name: datasets.Dataset.from_list(part) for name, part in parts.items()})
    both.save_to_disk(str(tmp_path / "two"))
    with pytest.raises(DataError, match="several: train, test"):
        read(tmp_path / "two")
    assert len(read(tmp_path / "two" / "train")) == 1
    for name in ("hf:nothing", "hf:../x", "hf:a/b/c/d", "hf:https://a/b"):
        with pytest.raises(DataError, match="hf:ORG/NAME"):
            read(name)
    with pytest.raises(DataError, match="unreadable"):
        read("hf:nobody/nothing")  # no network in tests
