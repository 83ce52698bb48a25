"""Columns under other names: read by a map, or refused in one message that says which map to type."""

import json
import subprocess
import warnings

import pytest

from feedback.faults import DataError
from feedback.readers import read, read_tasks, stream
from feedback.readers.columns.mapping import check_map, format_map, map_record, warn_of_reversed
from feedback.readers.record import Record

SPREADSHEET = "Question,Answer,Rating,Comment,Better answer\nName a bird.,A carp.,1,A fish.,A wren.\nA fish?,Cod.,5,,\n"
MAP = {
    "prompt": "Question",
    "response": "Answer",
    "score": "Rating",
    "critique": "Comment",
    "revision": "Better answer",
}


def lines(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_spreadsheet_is_read_by_its_map(tmp_path):
    (tmp_path / "f.csv").write_text(SPREADSHEET)
    bad, good = read(tmp_path / "f.csv", scale=(1, 5), columns=MAP)
    assert (bad.task.messages[0]["content"], bad.response, bad.score) == ("Name a bird.", "A carp.", 0)
    assert (bad.critique, bad.revision, bad.task.meta) == ("A fish.", "A wren.", {})
    assert (good.score, good.critique, good.revision) == (1, None, None)


def test_columns_that_fit_nothing_are_one_message_with_the_map_to_type(tmp_path):
    (tmp_path / "f.csv").write_text(SPREADSHEET + "x,y,3,,\n" * 120)
    with pytest.raises(DataError) as error:
        list(stream(tmp_path / "f.csv"))
    assert error.value.line is None and error.value.field == "columns"
    assert error.value.got == "'Question', 'Answer', 'Rating', 'Comment', 'Better answer'"
    typed = '--map prompt=Question response=Answer score=Rating critique=Comment revision="Better answer" --scale 1 5'
    assert typed in str(error.value) and "data.map" in str(error.value)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "p", "Answer": "a", "Score": 1}, "--map response=Answer score=Score"),
        ({"user_query": "p", "modelOutput": "a"}, "--map prompt=user_query response=modelOutput"),
        ({"foo": 1, "bar": 2}, "--map prompt=COLUMN response=COLUMN"),
        ({"question": "p", "foo": 2}, "--map prompt=question response=COLUMN; nothing looks like response"),
        ({"prompt": "p", "rating": 2}, "--map response=COLUMN score=rating --scale 1 5; nothing looks like response"),
        ({"prompt": "p", "answer": "5"}, "read by --format prompts"),
    ],
)
def test_the_nearest_fit_is_named(tmp_path, row, said):
    with pytest.raises(DataError, match="columns: got ") as error:
        read(lines(tmp_path / "f.jsonl", row))
    assert said in str(error.value)


def test_a_mapped_column_that_is_not_there_is_refused_with_its_neighbour(tmp_path):
    path = lines(tmp_path / "f.jsonl", {"Question": "p", "Answer": "a"}, {"Question": "p", "Answer": "b", "Note": "n"})
    assert read(path, columns={"prompt": "Question", "response": "Answer", "critique": "Note"})[1].critique == "n"
    with pytest.raises(DataError, match=r"map: got no column 'Answr', .*Did you mean 'Answer'\?"):
        read(path, columns={"prompt": "Question", "response": "Answr"})


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"promt": "Question"}, "Did you mean prompt?"),
        ({"level": "Level"}, "meta.level=Level keeps it as a note"),
        ({"prompt": "x", "response": "x"}, "'x' twice"),
        ({"meta.": "x"}, "'meta.'"),
    ],
)
def test_a_map_that_makes_no_sense_is_refused(columns, said):
    with pytest.raises(DataError) as error:
        check_map(columns)
    assert said in str(error.value)


def test_a_column_whose_place_is_taken_stays_as_a_note(tmp_path):
    path = lines(tmp_path / "f.jsonl", {"prompt": "p", "response": "r", "score": 0.9, "human": 0.25, "x": {"y": "k"}})
    (episode,) = read(path, columns={"score": "human", "annotator": "x.y"})
    assert (episode.score, episode.feedback[0].annotator) == (0.25, "k")
    assert episode.task.meta == {"original_score": 0.9, "x": {"y": "k"}}


def test_a_swap_is_no_conflict_and_a_mark_of_right_is_a_score():
    record = Record("f", 1, {"prompt": "a", "response": "q", "ok": True})
    mapped = map_record(record, {"prompt": "response", "response": "prompt", "score": "ok"})
    assert mapped.fields == {"prompt": "q", "response": "a", "score": 1.0}


def test_held_out_prompts_are_mapped_where_they_have_the_columns(tmp_path):
    path = lines(tmp_path / "f.jsonl", {"Question": "p", "Gold": "4"})
    columns = {"prompt": "Question", "reference": "Gold", "score": "Rating"}
    assert read_tasks(path, columns)[0].reference == "4"
    (task,) = read_tasks(lines(path, {"prompt": "own", "reference": "5"}), columns)
    assert (task.messages[0]["content"], task.reference) == ("own", "5")


def test_what_a_shell_would_break_is_quoted():
    assert format_map({"prompt": "a b", "score": 'x"$y'}) == '--map prompt="a b" score="x\\"\\$y"'


@pytest.mark.parametrize("name", ["rating\n", "a\tb'c\\d", "\x1b[1m0", "x\u2028y", "a b$c!d`e", "note\U000e0001!"])
def test_a_shell_reads_a_map_as_it_is_typed(name):
    """Whatever a column is called, the message is one line, and what it says to type means that column."""
    typed = format_map({"score": name, f"meta.{name}": name})
    assert typed.isprintable()
    done = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {typed}"], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"}
    )
    assert done.stdout.decode().split("\0")[1:-1] == [f"score={name}", f"meta.{name}={name}"]
    with pytest.raises(DataError) as error:
        check_map({f"rating {name}": "a"})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("header", "cells", "said"),
    [
        (
            "Frage;Antwort;Bewertung;Kommentar;Bessere Antwort",
            "Wie heißt er?;Hans;4;Das ist falsch.;Er heißt Franz",
            'prompt=Frage response=Antwort score=Bewertung critique=Kommentar revision="Bessere Antwort" --scale 1 5',
        ),
        ("Question;Réponse;Note;Commentaire", "Qui?;Luc;4;C'est faux.", "response=Réponse score=Note critique=Comment"),
        ("pregunta;respuesta;puntuación", "¿Quién?;Luis;4", "prompt=pregunta response=respuesta score=puntuación"),
        ("问题;回答;评分;评论", "谁?;他;4;这是错的。", "prompt=问题 response=回答 score=评分 critique=评论"),
    ],
)
def test_columns_in_other_languages_have_a_nearest_fit(tmp_path, header, cells, said):
    (tmp_path / "f.csv").write_text(f"{header}\n{cells}\n", encoding="utf-8")
    with pytest.raises(DataError) as error:
        read(tmp_path / "f.csv")
    assert said in str(error.value)


@pytest.mark.parametrize(
    "row",
    [
        {"inputs": {"x": "p"}, "outputs": {"y": "a"}, "feedback": [{"score": 0.5}]},
        {"dialog_id": 4, "annotator": "ann", "score": 0.5},
    ],
)
def test_a_file_with_neither_prompt_nor_response_is_one_message(tmp_path, row):
    found = list(stream_all(lines(tmp_path / "f.jsonl", *[row] * 120)))
    assert len(found) == 1 and "--map prompt=COLUMN response=COLUMN" in str(found[0])


def stream_all(path):
    try:
        yield from stream(path)
    except DataError as fault:
        yield fault


def test_dialogues_under_another_name_are_read_by_their_map(tmp_path):
    said = [{"from": "system", "value": "Be brief."}, {"from": "human", "value": "p"}, {"from": "gpt", "value": "a"}]
    path = lines(tmp_path / "f.jsonl", {"conversations": said, "rating": 4, "feedback": "That is wrong."})
    with pytest.raises(DataError) as error:
        read(path)
    assert "--map score=rating critique=feedback messages=conversations --scale 1 5" in str(error.value)
    columns = {"score": "rating", "critique": "feedback", "messages": "conversations"}
    (found,) = read(path, scale=(1, 5), columns=columns)
    assert [m["role"] for m in found.task.messages] == ["system", "user"]
    assert (found.response, found.score, found.critique) == ("a", 0.75, "That is wrong.")


@pytest.mark.parametrize(("human", "ai"), [("human", "ai"), ("human", "gpt"), ("user", "model"), ("user", "assistant")])
def test_roles_under_the_names_in_use(tmp_path, human, ai):
    messages = [{"role": human, "content": "p"}, {"role": ai, "content": "a"}]
    (found,) = read(lines(tmp_path / "f.jsonl", {"messages": messages, "score": 1.0}))
    assert (found.task.messages[0]["role"], found.response) == ("user", "a")


def test_a_score_from_a_column_that_says_bad_is_read_and_told(tmp_path):
    row = {"prompt": "2 + 2?", "response": "5"}
    path = lines(tmp_path / "rows.jsonl", row | {"thumbs_down": 1})
    with pytest.warns(UserWarning, match="score=thumbs_down: a high value of this column is learned as good"):
        (episode,) = read(path, columns={"score": "thumbs_down"})
    assert episode.score == 1.0, "as told"
    with pytest.warns(UserWarning, match="label=is_wrong"):
        warn_of_reversed("f.jsonl", {"label": "is_wrong"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(path, columns={"meta.down": "thumbs_down"})
        read(lines(path, row | {"no_errors": 1}), columns={"score": "no_errors"})
