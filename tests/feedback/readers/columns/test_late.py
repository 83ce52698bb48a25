"""Feedback in places that a look at the first records would miss: far below, deep inside, and in scores of a pair."""

import json

import pytest

from feedback.faults import DataError
from feedback.readers import read, read_with_report
from feedback.readers.streaming import HEAD

ROW = {"prompt": "Name a river in Peru.", "response": "The Nile."}
PAIR = {"prompt": "p", "chosen": "a", "rejected": "b"}


def lines(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("first", [{}, {"difficulty": "easy"}, {"rating": None}])
def test_feedback_that_turns_up_far_below_is_told(tmp_path, first):
    path = lines(tmp_path / "f.jsonl", *[ROW | first] * (HEAD + 20), ROW | {"rating": 4})
    with pytest.raises(DataError, match=r"feedback that nothing reads: 'rating'.*score=rating --scale 1 5"):
        read_with_report(path, lenient=True)


def test_the_slow_way_tells_it_too(tmp_path):
    messages = [{"role": "user", "content": "p"}, {"role": "assistant", "content": "a"}]
    path = lines(tmp_path / "f.jsonl", *[{"messages": messages}] * (HEAD + 1), {"messages": messages, "comment": "No."})
    with pytest.raises(DataError, match="feedback that nothing reads: 'comment'"):
        read(path)


def test_a_table_whose_first_rows_are_not_rated_is_told(tmp_path):
    (tmp_path / "f.csv").write_text("prompt,response,rating\n" + "p,a,\n" * (HEAD + 1) + "p,a,4\n")
    with pytest.raises(DataError, match="feedback that nothing reads: 'rating'"):
        read(tmp_path / "f.csv")


def test_a_late_note_beside_feedback_of_its_kind_stays_one(tmp_path):
    rows = [ROW | {"score": 1}] * (HEAD + 1) + [ROW | {"score": 1, "rating": 4, "comment": "n", "critique": "No."}]
    assert read(lines(tmp_path / "f.jsonl", *rows))[-1].task.meta == {"rating": 4, "comment": "n"}


def test_feedback_deep_inside_is_told_and_read_by_its_map(tmp_path):
    path = lines(tmp_path / "f.jsonl", ROW | {"evaluation": {"human": {"score": 0, "comment": "In Africa."}}})
    with pytest.raises(DataError, match=r"score=evaluation.human.score critique=evaluation.human.comment"):
        read(path)
    columns = {"score": "evaluation.human.score", "critique": "evaluation.human.comment"}
    (episode,) = read(path, columns=columns)
    assert (episode.score, episode.critique) == (0, "In Africa.")


@pytest.mark.parametrize("name", ["score", "chosen_score", "rejected-rating"])
def test_scores_of_a_pair_that_the_comparison_does_not_say_are_told(tmp_path, name):
    with pytest.raises(DataError, match=f"feedback that nothing reads: '{name}'"):
        read(lines(tmp_path / "f.jsonl", PAIR | {name: 4}))
    better, worse = read(lines(tmp_path / "f.jsonl", PAIR | {name: 4}), columns={f"meta.{name}": name})
    assert (better.score, worse.score) == (1, 0)


@pytest.mark.parametrize("key", ["comment", "feedback", "rating"])
def test_an_item_of_scores_with_feedback_of_its_own_is_refused(tmp_path, key):
    item = {"name": "user", "value": 1, "dataType": "NUMERIC", key: {"rating": 4}.get(key, "No.")}
    with pytest.raises(DataError, match=rf"scores\[0\].{key}: got .*expected a number alone"):
        read(lines(tmp_path / "f.jsonl", ROW | {"scores": [item]}))


@pytest.mark.parametrize(
    ("more", "typed"),
    [
        ({"likes": "yes"}, "score=likes"),
        ({"upvotes": 3}, "score=upvotes"),
        ({"is_good": True}, "score=is_good"),
        ({"kto_tag": False}, "score=kto_tag"),
        ({"what_went_wrong": "Too long."}, "critique=what_went_wrong"),
        ({"suggestions": "Be brief."}, "critique=suggestions"),
    ],
)
def test_still_more_names_are_told(tmp_path, more, typed):
    with pytest.raises(DataError, match=f"feedback that nothing reads: .*--map {typed}"):
        read(lines(tmp_path / "f.jsonl", ROW | more))


@pytest.mark.parametrize("late", [{"opinion": "In Africa."}, {"evaluation": {"opinion": "In Africa."}}])
def test_names_that_are_told_above_are_told_below(tmp_path, late):
    path = lines(tmp_path / "f.jsonl", *[ROW | {"score": 1}] * (HEAD + 1), ROW | late)
    with pytest.raises(DataError, match="feedback that nothing reads: '(evaluation.)?opinion'"):
        read(path)


@pytest.mark.parametrize("note", [{"comment": "In Africa."}, {"judge": {"comment": "In Africa."}}])
def test_a_note_that_far_below_stands_alone_is_told(tmp_path, note):
    path = lines(tmp_path / "f.jsonl", *[ROW | {"critique": "No."} | note] * (HEAD + 1), ROW | note)
    with pytest.raises(DataError, match="feedback that nothing reads: '(judge.)?comment'"):
        read(path)
