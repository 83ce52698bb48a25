"""Files whose rows hold something else than one answer to one prompt: one message, whatever their names."""

import json

import pytest

from feedback.faults import DataError
from feedback.readers import read
from feedback.readers.columns.names import find_unmistakable, holds_answers, holds_lists, suggest_field

U = {"role": "user", "content": "p"}
A = {"role": "assistant", "content": "a"}


def lines(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("row", "said", "typed"),
    [
        (
            {"prompt": "p", "response_a": "a", "response_b": "b", "winner": "model_a"},
            "'response_a', 'response_b'",
            "COLUMN",
        ),
        ({"prompt": "p", "response_1": "a", "response_2": "b"}, "'response_1', 'response_2'", "rejected=COLUMN"),
        (
            {"question": "p", "answer_0": "a", "answer_1": "b", "score_0": 0.5},
            "'answer_0', 'answer_1'",
            "prompt=question chosen=COLUMN",
        ),
        (
            {"prompt": "p", "chosen_response": "a", "rejected_response": "b"},
            "'chosen_response', 'rejected_response'",
            "chosen=chosen_response rejected=rejected_response",
        ),
        ({"conversation_a": [U, A], "conversation_b": [U, A], "winner": "tie"}, "'conversation_a'", "COLUMN"),
    ],
)
def test_a_column_for_each_answer_is_told(tmp_path, row, said, typed):
    with pytest.raises(DataError, match="several answers in one row") as error:
        read(lines(tmp_path / "f.jsonl", row))
    assert said in error.value.got and typed in error.value.remedy


@pytest.mark.parametrize(
    "more",
    [
        {"responses": ["a", "b"], "scores": [0, 1]},
        {"responses": ["a", "b"], "rewards": [0, 1]},
        {"answers": [{"answer": "a", "rank": 1.0}]},
        {"generations": ["a", "b"]},
    ],
)
def test_a_list_of_answers_is_no_prompt_alone(tmp_path, more):
    with pytest.raises(DataError, match="several answers in one row: .*Give each answer a row of its own"):
        read(lines(tmp_path / "f.jsonl", {"prompt": "p"} | more))


@pytest.mark.parametrize(
    ("row", "typed", "columns"),
    [
        (
            {"data": {"question": "p", "answer": "a"}, "eval": {"rating": 4}},
            "--map prompt=data.question response=data.answer score=eval.rating --scale 1 5",
            {"prompt": "data.question", "response": "data.answer", "score": "eval.rating"},
        ),
        (
            {"prompt": "p", "completions": ["a"], "score": 4},
            "--map response=completions.0",
            {"response": "completions.0"},
        ),
    ],
)
def test_the_nearest_fit_looks_into_objects_and_lists_of_one(tmp_path, row, typed, columns):
    path = lines(tmp_path / "f.jsonl", row)
    with pytest.raises(DataError) as error:
        read(path)
    assert typed in error.value.remedy
    (episode,) = read(path, columns=columns, scale=(1, 5))
    assert (episode.task.messages[0]["content"], episode.response, episode.score) == ("p", "a", 0.75)


def test_a_path_beyond_a_list_is_no_column(tmp_path):
    for path in ("completions.1", "completions.x", "completions.-1", "completions.٠"):
        with pytest.raises(DataError, match="no column"):
            read(lines(tmp_path / "f.jsonl", {"prompt": "p", "completions": ["a"]}), columns={"response": path})


def test_scores_beyond_one_suggest_a_scale_that_holds_them(tmp_path):
    rows = ({"prompt": "p", "response": "a", "score": score} for score in (0, 80))
    with pytest.raises(DataError, match="for example 0 100"):
        read(lines(tmp_path / "f.jsonl", *rows))


def test_what_the_map_of_a_pair_says_reads_it(tmp_path):
    path = lines(tmp_path / "f.jsonl", {"prompt": "p", "chosen_response": "a", "rejected_response": "b"})
    better, worse = read(path, columns={"chosen": "chosen_response", "rejected": "rejected_response"})
    assert (better.response, better.score, worse.response, worse.score) == ("a", 1, "b", 0)


def test_a_pair_whose_prompt_has_another_name_is_one_message(tmp_path):
    path = lines(tmp_path / "f.jsonl", {"question": "p", "chosen": "a", "rejected": "b"})
    with pytest.raises(DataError, match="nearest fit: --map prompt=question"):
        read(path)
    assert read(path, columns={"prompt": "question"})[0].response == "a"


def test_two_answers_of_other_names_are_an_answer_and_a_note(tmp_path):
    with pytest.raises(DataError, match="--map prompt=question response=answer"):
        read(lines(tmp_path / "f.jsonl", {"question": "p", "answer": "a", "reply": "b"}))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("ratings", [[4, 5]]),
        ("annotations", [[{"rating": 4}]]),
        ("feedback", [["No."]]),
        ("critiques", [["No.", "So."]]),
    ],
)
def test_feedback_in_lists_is_told(tmp_path, name, values):
    assert holds_lists(name, values)
    path = lines(tmp_path / "f.jsonl", {"prompt": "p", "response": "r", name: values[0]})
    with pytest.raises(DataError, match=rf"'{name}' \(lists\).*meta.{name}={name} to keep it as a note"):
        read(path)
    (episode,) = read(path, columns={f"meta.{name}": name})
    assert episode.task.meta == {name: values[0]}
    (episode,) = read(lines(path, {"prompt": "p", "response": "r", "score": 1, "critique": "No.", name: values[0]}))
    assert episode.task.meta == {name: values[0]}
    kind = ("critique", "No.") if name == "ratings" else ("score", 1)
    with pytest.raises(DataError, match="lists"):  # of another kind than what is read
        read(lines(path, {"prompt": "p", "response": "r", kind[0]: kind[1], name: values[0]}))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"feedback": "thumbs_down"}, "'feedback' (ratings as text)"),
        ({"rating": "4/5"}, "--map score=rating --scale 1 5"),
        ({"rating": "80%"}, "--map score=rating to read it"),
        ({"stars": "⭐⭐⭐"}, "--map score=stars --scale 1 5"),
        ({"grade": "C"}, "'grade' (text)"),
        ({"accuracy": 0.2}, "'accuracy'"),
    ],
)
def test_ratings_of_any_spelling_are_told(tmp_path, more, said):
    with pytest.raises(DataError, match="feedback that nothing reads") as error:
        read(lines(tmp_path / "f.jsonl", {"prompt": "p", "response": "r"} | more))
    assert said in str(error.value)


def test_a_decimal_comma_is_seen_where_a_scale_is_suggested(tmp_path):
    (tmp_path / "f.csv").write_text("\ufeffQuestion;Answer;Rating\np;a;4,5\np;b;1\n", encoding="utf-8")
    with pytest.raises(DataError, match="--map prompt=Question response=Answer score=Rating --scale 1 5"):
        read(tmp_path / "f.csv")


@pytest.mark.parametrize("name", ["system", "system_prompt", "systemMessage"])
def test_a_systems_words_beside_the_prompt_are_told_and_mapped(tmp_path, name):
    row = {"prompt": "p", "response": "a", "score": 1, name: "Be brief."}
    path = lines(tmp_path / "f.jsonl", row)
    with pytest.raises(DataError, match=f"words of a system.*--map system={name} to put them before it, or --map meta"):
        read(path)
    said = {"role": "system", "content": "Be brief."}
    (episode,) = read(path, columns={"system": name})
    assert episode.task.messages == (said, U) and episode.task.meta == {}
    (episode,) = read(path, columns={f"meta.{name}": name})
    assert episode.task.messages == (U,)
    (episode,) = read(lines(path, {"messages": [U, A], "score": 1, name: "Be brief."}), columns={"system": name})
    assert episode.task.messages == (said, U)
    packed = lines(path, {"prompt": json.dumps([U]), "response": "a", "score": 1, name: "Be brief."})
    assert read(packed, columns={"system": name})[0].task.messages == (said, U)
    pair = lines(path, {"chosen": [U, A], "rejected": [U, A | {"content": "b"}], name: "Be brief."})
    assert [episode.task.messages for episode in read(pair, columns={"system": name})] == [(said, U)] * 2


def test_an_empty_system_is_nothing(tmp_path):
    row = {"prompt": "p", "response": "a", "score": 1, "system": ""}
    path = lines(tmp_path / "f.jsonl", row)
    assert read(path)[0].task.messages == read(path, columns={"system": "system"})[0].task.messages == (U,)


def test_names_of_lists():
    assert holds_answers("answers", [[{"answer": "a"}]]) and not holds_answers("completion", [[A]])
    assert not holds_answers("generations", [[]]) and not holds_lists("comment_ids", [["x"]])
    assert suggest_field("answer", [["a", "b"]]) is None and find_unmistakable("label", ["sports"]) is None
