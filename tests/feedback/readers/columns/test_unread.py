"""Feedback in a column that nobody reads is refused by name, with the map that reads it; a note stays a note."""

import json
import shlex

import pytest

from feedback.faults import DataError
from feedback.readers import read, read_with_report
from feedback.readers.columns.names import find_unmistakable, suggest_field
from feedback.readers.scales import suggest_scale

ROW = {"prompt": "Name a river in Peru.", "response": "The Nile."}


def lines(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("more", "said", "typed"),
    [
        ({"rating": 1, "feedback": "In Africa."}, "'rating' (numbers from 1 to 1), 'feedback' (text)", "score=rating"),
        ({"score": 0, "feedback": "A fish.", "corrected": "A wren."}, "'corrected' (text)", "revision=corrected"),
        ({"reward": 0.5}, "'reward' (numbers from 0.5 to 0.5)", "score=reward"),
        ({"label": True, "critique": "No."}, "'label' (true or false)", "score=label"),
        ({"label": "bad"}, "'label'", "score=label"),
        ({"human_rating": 4}, "'human_rating'", "score=human_rating --scale 1 5"),
        ({"userComment": "No."}, "'userComment' (text)", "critique=userComment"),
    ],
)
def test_feedback_under_another_name_is_named(tmp_path, more, said, typed):
    with pytest.raises(DataError, match="columns: got feedback that nothing reads") as error:
        read_with_report(lines(tmp_path / "f.jsonl", ROW | more, ROW), lenient=True)
    assert error.value.line is None and said in error.value.got and typed in error.value.remedy


def test_the_map_that_the_message_says_reads_it_or_keeps_it_as_a_note(tmp_path):
    path = lines(tmp_path / "f.jsonl", ROW | {"rating": 1, "feedback": "In Africa."}, ROW | {"rating": 5})
    first, second = read(path, scale=(1, 5), columns={"score": "rating", "critique": "feedback"})
    assert (first.score, first.critique, second.score) == (0, "In Africa.", 1)
    first, _ = read(path, columns={"meta.rating": "rating", "meta.feedback": "feedback"})
    assert first.feedback == () and first.task.meta == {"rating": 1, "feedback": "In Africa."}


def test_further_columns_beside_feedback_of_their_kind_stay_notes(tmp_path):
    row = ROW | {"score": 1, "critique": "Good.", "revision": "x", "rating": 3, "comment": "n", "difficulty": "easy"}
    (episode,) = read(lines(tmp_path / "f.jsonl", row))
    assert episode.task.meta == {"rating": 3, "comment": "n", "difficulty": "easy"}


def test_a_score_beside_a_format_that_reads_none_is_refused(tmp_path):
    pair = {"prompt": "p", "chosen": "a", "rejected": "b", "critique": "b is worse."}
    with pytest.raises(DataError, match=r"'critique' \(text\).*The format trl-preference reads no such column"):
        read(lines(tmp_path / "f.jsonl", pair))


def test_a_row_s_feedback_beside_messages_and_completions_is_read(tmp_path):
    chat = [{"role": "user", "content": "p"}, {"role": "assistant", "content": "r"}]
    judged = {"score": 0.25, "critique": "No.", "annotator": "kim", "source": "llm"}
    (episode,) = read(lines(tmp_path / "f.jsonl", {"messages": chat} | judged))
    item = episode.feedback[0]
    assert (item.score, item.text, item.turn, item.annotator, item.source) == (0.25, "No.", None, "kim", "llm")
    (episode,) = read(lines(tmp_path / "f.jsonl", {"prompt": "p", "completion": "r", "reference": "x"} | judged))
    assert (episode.score, episode.critique, episode.task.reference) == (0.25, "No.", "x") and not episode.task.meta


@pytest.mark.parametrize(
    ("name", "values", "field"),
    [
        ("Better answer", ["x"], "revision"),
        ("gold_answer", ["x"], "reference"),
        ("userPrompt", ["x"], "prompt"),
        ("answer_id", ["x"], None),
        ("response_length", [4], None),
        ("Feedback", [4, 5], "score"),
        ("Answer", ["5", "7"], "response"),  # numbers of a table are text
        ("Answer", [5, 7], None),
        ("messages_in", [[{}]], None),
    ],
)
def test_a_name_and_its_values_suggest_a_field(name, values, field):
    assert suggest_field(name, values) == field


@pytest.mark.parametrize("name", ["feedback_id", "label_name", "score_model", "difficulty", "review_result", "quality"])
def test_a_name_about_feedback_is_no_feedback(name):
    assert find_unmistakable(name, [True]) is None and find_unmistakable(name, ["words"]) is None


def test_a_scale_is_suggested_from_the_usual_ones():
    ranges = [(0, 1), (-1, 1), (1, 5), (2, 4), (0, 5), (1, 10), (3, 90), (-3, 3)]
    expected = [(0, 1), (-1, 1), (1, 5), (1, 5), (0, 10), (0, 10), (0, 100), (-3, 3)]
    assert [suggest_scale(*seen) for seen in ranges] == expected


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"is_correct": True}, "--map score=is_correct"),
        ({"resolved": False}, "--map score=resolved"),
        ({"edited_response": "A wren, it is."}, "--map revision=edited_response"),
        ({"judge": {"score": 4, "model": "j"}}, "--map score=judge.score --scale 1 5"),
        ({"metadata": {"critique": "That is a fish."}}, "--map critique=metadata.critique"),
    ],
)
def test_feedback_under_more_names_is_named(tmp_path, more, said):
    (tmp_path / "f.jsonl").write_text(json.dumps({"prompt": "p", "response": "a", **more}) + "\n")
    with pytest.raises(DataError) as error:
        read(tmp_path / "f.jsonl")
    assert said in str(error.value)


def test_the_map_that_is_typed_reads_an_inner_value(tmp_path):
    (tmp_path / "f.jsonl").write_text('{"prompt": "p", "response": "a", "judge": {"score": 4}}\n')
    (found,) = read(tmp_path / "f.jsonl", scale=(1, 5), columns={"score": "judge.score"})
    assert found.score == 0.75


@pytest.mark.parametrize(
    ("more", "typed"),
    [
        ({"value": 3}, "score=value --scale 1 5"),
        ({"winner": "model_a"}, "score=winner"),
        ({"status": "passed"}, "score=status"),
        ({"result": "failure"}, "score=result"),
        ({"score": 1, "error": "Names another continent."}, "critique=error"),
        ({"critique": "No.", "outcome": "success"}, "score=outcome"),
        ({"How would you rate this? [Clarity]": 4}, 'score="How would you rate this? [Clarity]" --scale 1 5'),
    ],
)
def test_a_word_that_says_feedback_as_a_whole_name_is_told(tmp_path, more, typed):
    with pytest.raises(DataError) as error:
        read(lines(tmp_path / "f.jsonl", ROW | more))
    assert typed in error.value.remedy


@pytest.mark.parametrize(
    ("name", "value"),
    [("value", "blue"), ("status", "completed"), ("status", 200), ("error", None), ("error_count", 3)],
)
def test_such_a_word_with_other_values_is_a_note(tmp_path, name, value):
    (episode,) = read(lines(tmp_path / "f.jsonl", ROW | {name: value}))
    assert episode.feedback == () and episode.task.meta == ({name: value} if value is not None else {})


@pytest.mark.parametrize("name", ["learning_rate", "response_value", "winner_id"])
def test_a_rate_and_part_of_a_name_are_no_scores(name):
    assert find_unmistakable(name, [0.5], is_plain=True) is None


def test_of_a_surveys_grid_the_overall_column_is_offered_and_the_map_is_typed_as_a_shell_takes_it(tmp_path):
    grid = {"Rate it [Accuracy]": 4, "Rate it [Overall]": 5}
    with pytest.raises(DataError) as error:
        read(lines(tmp_path / "f.jsonl", ROW | grid))
    assert 'score="Rate it [Overall]" --scale' in error.value.remedy
    words = shlex.split(error.value.remedy.partition(", or --map ")[2].partition(" to keep")[0])
    columns = dict(word.split("=", 1) for word in words)
    assert columns == {f"meta.{name}": name for name in grid}
    (episode,) = read(tmp_path / "f.jsonl", columns=columns)
    assert episode.task.meta == grid


@pytest.mark.parametrize(
    "more",
    [
        {"error": True},
        {"has_error": "false"},
        {"is_wrong": 1},
        {"hallucination": 0},
        {"thumbs_down": True},
        {"dislikes": 2},
        {"not_helpful": "yes"},
        {"mistakes": 3},
        {"toxicity": 0.25},
        {"flags": {"incorrect": True}},
    ],
)
def test_where_a_high_value_says_bad_no_map_is_offered_that_would_learn_it_the_wrong_way_round(tmp_path, more):
    with pytest.raises(DataError) as error:
        read(lines(tmp_path / "f.jsonl", ROW | more))
    assert "says bad: write the opposite into a column score" in error.value.remedy and "score=" not in str(error.value)
    name = next(iter(more)) if "flags" not in more else "flags.incorrect"
    (episode,) = read(tmp_path / "f.jsonl", columns={f"meta.{name}": name})
    assert episode.feedback == ()


@pytest.mark.parametrize("name", ["bug_fixed", "no_errors", "issue_resolved", "safe", "pass"])
def test_a_bad_word_that_another_turns_round_is_offered_as_a_score(tmp_path, name):
    with pytest.raises(DataError) as error:
        read(lines(tmp_path / "f.jsonl", ROW | {name: True}))
    assert f"score={name}" in error.value.remedy and "says bad" not in error.value.remedy


def test_beside_a_column_to_map_the_bad_one_is_named_and_not_mapped(tmp_path):
    path = lines(tmp_path / "f.jsonl", ROW | {"thumbs_down": 1, "comment": "No."})
    with pytest.raises(DataError) as error:
        read(path)
    assert "critique=comment" in error.value.remedy and "value of 'thumbs_down' says bad" in error.value.remedy
    assert suggest_field("thumbs_down", [1, 0]) is None
