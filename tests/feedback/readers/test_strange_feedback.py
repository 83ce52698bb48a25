"""Feedback as programs in use export it: read with its right value, or told; never lost or laid onto another answer."""

import csv
import io
import json

import pytest

from feedback.faults import DataError
from feedback.readers import count_placeholders, read, read_with_report

U, A = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}
ROW = {"prompt": "Q", "response": "A"}
PAIR = {"prompt": "Q", "chosen": "A", "rejected": "B"}


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"messages": [U, A, U], "choices": [{"message": A}], "score": 0}, "choices: got"),
        ({"messages": [U, A, U], "output": "5", "score": 0}, "output: got '5', expected no answer"),
        (ROW | {"score": 0, "explanation": "wrong fact"}, "--map critique=explanation"),
        (ROW | {"score": 0, "rationale": "wrong fact"}, "--map critique=rationale"),
        (PAIR | {"rationale": "B is wrong."}, r"'rationale' \(text\)"),
        (ROW | {"score": 0.5, "judge": {"critique": "No.", "revision": "B"}}, "critique=judge.critique"),
        (ROW | {"critique": "No.", "metadata": {"rating": 4}}, "score=metadata.rating"),
        (ROW | {"score": 0.4, "comments": ["It is wrong"]}, r"'comments' \(lists\)"),
        (ROW | {"score": 0.4, "feedbacks": [{"rating": 1, "comment": "No."}]}, r"'feedbacks' \(lists\)"),
        (ROW | {"score": 0.4, "human_answer": "B"}, "revision=human_answer"),
        (ROW | {"score": 0.4, "ideal": "B"}, "reference=ideal"),
        (ROW | {"critique": "No.", "csat": 4}, "score=csat --scale 1 5"),
        (ROW | {"critique": "No.", "quality": 4}, "score=quality --scale 1 5"),
        (ROW | {"answer": "reject"}, "score=answer"),
        (ROW | {"score": 0.4, "reasoning_content": "think"}, "part of the response: 'reasoning_content'"),
        (ROW | {"score": 0.4, "chat_history": [U, A]}, "part of the prompt: 'chat_history'"),
        ({"system": [{"type": "text", "text": "Be brief"}], "messages": [U, A], "score": 1}, "words of a system"),
        (PAIR | {"margin": 0.6}, "'margin'"),
        (PAIR | {"chosen": [U, A], "rejected": [U, U | {"role": "assistant"}]}, "prompt: got 'Q'"),
        ({"messages": [U, A | {"reasoning_details": [{"text": "think"}]}], "score": 1}, "reasoning_details"),
        ({"prompt": "\n\nHuman: Hi\n\nAssistant:", "response": "A", "score": 1}, "template already applied"),
        ({"prompt": "### Instruction:\nQ\n\n### Response:", "response": "A", "score": 1}, "template already applied"),
    ],
)
def test_what_would_be_lost_is_told(tmp_path, row, said):
    with pytest.raises(DataError, match=said):
        read(write(tmp_path / "f.jsonl", row))


def test_one_row_with_a_field_hides_no_column_of_the_others(tmp_path):
    rows = [ROW | {"critique": "x y"}, *(ROW | {"prompt": f"Q{n}", "feedback": "Wrong."} for n in range(5))]
    with pytest.raises(DataError, match="--map critique=feedback"):
        read(write(tmp_path / "f.jsonl", *rows))
    both = ROW | {"critique": "x y", "feedback": "Wrong."}
    assert read(write(tmp_path / "f.jsonl", both))[0].task.meta == {"feedback": "Wrong."}


def test_scores_of_a_pair_are_on_the_declared_scale_unless_they_are_ultrafeedbacks(tmp_path):
    pair = PAIR | {"score_chosen": 5, "score_rejected": 2}
    path = write(tmp_path / "f.jsonl", pair)
    with pytest.raises(DataError, match="for example 1 5"):
        read(path)
    assert [episode.score for episode in read(path, scale=(1, 5))] == [1, 0.25]
    own = read(write(tmp_path / "f.jsonl", pair | {"prompt_id": "7"}))
    assert [round(episode.score, 3) for episode in own] == [0.444, 0.111]  # from 1 to 10


def test_label_studios_pretty_values_are_what_they_hold(tmp_path):
    answers = {"rating": [{"rating": 2}], "comment": {"text": ["It is Lima", "And rude"]}}
    row = {"id": 1, "annotation_id": 5, "annotator": 1, "created_at": "c", "updated_at": "u", "lead_time": 1.0} | ROW
    (tmp_path / "f.json").write_text(json.dumps([row | answers]))
    table = io.StringIO()
    writer = csv.DictWriter(table, list(row | answers))
    writer.writeheader()
    writer.writerow(row | {name: json.dumps(value) for name, value in answers.items()})
    (tmp_path / "f.csv").write_text(table.getvalue())
    for name in ("f.json", "f.csv"):
        (episode,) = read(tmp_path / name, scale=(1, 5))
        assert (episode.score, episode.critique) == (0.25, "It is Lima\nAnd rude")


@pytest.mark.parametrize(
    ("result", "score", "critique", "meta"),
    [
        ({"value": {"start": 0, "end": 1, "text": "A", "labels": ["Error"]}}, None, None, {"results"}),
        ({"value": {"choices": ["3"]}}, 0.5, None, set()),
        ({"from_name": "comment", "value": {"text": ["wrong"]}}, None, "wrong", set()),
    ],
)
def test_label_studios_results_are_what_they_say(tmp_path, result, score, critique, meta):
    result = {"from_name": "grade", "to_name": "r"} | result
    row = {"id": 1, "data": ROW, "annotations": [{"completed_by": 1, "result": [result]}], "predictions": []}
    (episode,) = read(write(tmp_path / "f.jsonl", row), scale=(1, 5))
    assert (None if score is None else episode.score, episode.critique, set(episode.task.meta)) == (
        score,
        critique,
        meta,
    )
    assert score is not None or episode.score != episode.score


def test_an_edited_answer_of_open_webui_is_a_correction_of_what_the_policy_said(tmp_path):
    said = {"rating": -1, "tags": ["wrong"], "details": {"rating": 4}}
    answer = {"id": "2", "parentId": "1", "childrenIds": [], "role": "assistant", "content": "Edited"}
    asked = {"id": "1", "parentId": None, "childrenIds": ["2"]} | U
    nodes = {"1": asked, "2": answer | {"originalContent": "Orig", "annotation": said}}
    chat = {"params": {"system": "Be brief"}, "history": {"messages": nodes, "currentId": "2"}}
    (episode,) = read(write(tmp_path / "f.jsonl", {"id": "c", "chat": chat}), aggregate="each")
    assert [message["content"] for message in episode.task.messages] == ["Be brief", "Hi"]
    assert (episode.response, episode.critique) == ("Orig", "wrong")
    assert [item.revision for item in episode.feedback if item.revision] == ["Edited"]
    assert [(item.name, round(item.score, 3)) for item in episode.feedback[:2]] == [("rating", 0), ("details", 0.333)]


def test_surveys(tmp_path):
    (tmp_path / "f.csv").write_text("ResponseId,Finished,prompt,response,score\nR_1,0,Q,A,1\n")
    assert read(tmp_path / "f.csv")[0].finished
    places = '"{""ImportId"":""p""}","{""ImportId"":""r""}",x'
    (tmp_path / "f.csv").write_text(f"prompt,response,critique\nThe prompt,The answer,Why?\n{places}\nQ,A,No.\n")
    with pytest.raises(DataError, match="header of several lines, with ImportId in line 3"):
        read(tmp_path / "f.csv")


@pytest.mark.filterwarnings("ignore:.*say nothing")
def test_words_for_nothing_are_counted_in_answers_and_corrections(tmp_path):
    path = write(tmp_path / "f.jsonl", ROW | {"revision": "nan", "score": 1}, ROW | {"response": "None", "score": 0})
    episodes, _ = read_with_report(path)
    assert count_placeholders(episodes) == {"nan": 1, "None": 1}


def test_a_single_row_with_a_list_in_it_is_no_wrapping(tmp_path):
    row = {"input": {"question": "Q"}, "output": {"answer": "A"}, "scores": [{"name": "n", "value": 1}]}
    with pytest.raises(DataError, match="--map prompt=input.question response=output.answer"):
        read(write(tmp_path / "f.jsonl", row))
