"""To annotation tools and back: the same episodes, with what people said there added."""

import json
from xml.etree import ElementTree

import pytest

from fdt.cli.data.main import main
from feedback.readers import detect, stream
from feedback.types import Feedback
from feedback.writers import write_rows

TALK = {
    "id": "talk",
    "task": "birds",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Name a bird."},
        {"role": "assistant", "content": "", "tool_calls": [{"id": "c1", "name": "find", "arguments": '{"a": 1}'}]},
        {"role": "tool", "content": "carp", "tool_call_id": "c1"},
        {"role": "assistant", "content": "A carp."},
    ],
    "feedback": [
        {"turn": 4, "score": 2, "min": 1, "max": 5, "critique": "A fish.", "annotator": "lee"},
        {"score": 0.25, "source": "llm", "name": "correct", "revision": "A duck."},
    ],
    "reference": "any bird",
    "meta": {"topic": "animals"},
}
ROW = {"id": "row", "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}]}


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "talks.jsonl"
    write_rows(path, [TALK, ROW])
    return path


def convert(source, target, tool, *more) -> None:
    assert main(["convert", str(source), str(target), "--to", tool, *more]) == 0


@pytest.mark.parametrize(("tool", "ending"), [("label-studio", ".json"), ("argilla", ".jsonl"), ("argilla", ".json")])
def test_what_nobody_touched_comes_back_the_same(source, tmp_path, tool, ending):
    target = tmp_path / f"tasks{ending}"
    convert(source, target, tool)
    assert detect(target) == tool
    assert list(stream(target)) == list(stream(source))
    # And through the verb itself, into a canonical file.
    assert main(["convert", str(target), str(tmp_path / "back.jsonl"), "--shape", "episode"]) == 0
    assert list(stream(tmp_path / "back.jsonl")) == list(stream(source))


def test_label_studio_adds_what_people_said(source, tmp_path):
    convert(source, tmp_path / "tasks.json", "label-studio", "--points", "0", "4")
    tasks = json.loads((tmp_path / "tasks.json").read_text())

    def answer(name, kind, value):
        return {"id": name, "from_name": name, "to_name": "dialog", "type": kind, "value": {kind: value}}

    judged = [answer("score_turn_2", "number", 1), answer("critique_turn_2", "textarea", ["No bird."])]
    judged[1]["value"] = {"text": ["No.", "No bird."]}
    whole = [answer("score", "number", 4), answer("something else", "choices", ["good"])]
    # As the tool exports it: ids of its own, people by their address.
    tasks[0] |= {
        "id": 17,
        "annotations": [
            {"id": 1, "completed_by": {"email": "kim@x.org", "id": 3}, "was_cancelled": False, "result": judged},
            {"id": 2, "completed_by": 4, "was_cancelled": False, "result": whole},
            {"id": 3, "completed_by": 5, "was_cancelled": True, "result": whole},
        ],
    }
    tasks[1] |= {"id": 18, "annotations": [], "predictions": []}
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    talk, row = stream(tmp_path / "export.json")
    before, untouched = stream(source)
    assert talk.feedback == (
        *before.feedback,
        Feedback("human", "kim@x.org", score=0.25, text="No bird.", turn=1, scale=(0, 4)),
        Feedback("human", "4", score=1.0, scale=(0, 4)),
    )
    assert (talk.turns, talk.task, row) == (before.turns, before.task, untouched)


def test_argilla_adds_what_people_submitted(source, tmp_path):
    convert(source, tmp_path / "records.jsonl", "argilla")
    talk, row = map(json.loads, (tmp_path / "records.jsonl").read_text().splitlines())
    talk |= {"status": "completed", "_server_id": "u", "score.suggestion": None, "score.suggestion.agent": None}
    for name, values, users, states in (
        ("score", [2, 5], ["u1", "u2"], ["submitted", "draft"]),
        ("revision_turn_1", ["Say duck."], ["u1"], ["submitted"]),
    ):
        talk |= {f"{name}.responses": values, f"{name}.responses.users": users, f"{name}.responses.status": states}
    write_rows(tmp_path / "export.jsonl", [talk, row | {"score.responses": None}])
    found, untouched = stream(tmp_path / "export.jsonl")
    before, same = stream(source)
    assert found.feedback == (
        *before.feedback,
        Feedback("human", "u1", score=0.25, scale=(1, 5)),
        Feedback("human", "u1", revision="Say duck.", turn=0),
    )
    assert untouched == same


def test_the_labelling_config_asks_about_each_turn(source, tmp_path):
    convert(source, tmp_path / "tasks.json", "label-studio", "--points", "0", "4")
    view = ElementTree.parse(tmp_path / "tasks.config.xml").getroot()
    shown = json.loads((tmp_path / "tasks.json").read_text())[0]["data"]
    assert all(tag.get("value")[1:] in shown for tag in view if tag.get("value", "").startswith("$"))
    controls = {tag.get("name"): tag for tag in view if tag.get("toName")}
    parts = ("score", "critique", "revision")
    assert set(controls) == {*parts, *(f"{part}_turn_{n}" for part in parts for n in (1, 2))}
    assert {tag.get("toName") for tag in controls.values()} == {"dialog"}
    assert (controls["score_turn_2"].get("min"), controls["score_turn_2"].get("max")) == ("0", "4")
    assert shown["dialog"][2] == {"author": "assistant", "text": 'calls find({"a": 1})'}
    assert "A fish." in shown["given"]


def test_argillas_settings_name_the_fields_and_questions(source, tmp_path):
    convert(source, tmp_path / "records.jsonl", "argilla", "--points", "0", "2")
    settings = json.loads((tmp_path / "records.settings.json").read_text())
    record = json.loads((tmp_path / "records.jsonl").read_text().splitlines()[1])
    assert all(record[field["name"]] for field in settings["fields"])
    rating = next(q for q in settings["questions"] if q["name"] == "score_turn_2")
    assert [option["value"] for option in rating["settings"]["options"]] == [0, 1, 2]
    assert [question["name"] for question in settings["questions"] if question["required"]] == ["score"]


def test_a_turn_that_is_not_there_is_a_fault(source, tmp_path, capsys):
    convert(source, tmp_path / "tasks.json", "label-studio")
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    result = {"from_name": "score_turn_3", "value": {"number": 1}}
    tasks[0]["annotations"] = [{"result": [result]}]
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    assert main(["convert", str(tmp_path / "export.json"), str(tmp_path / "back.jsonl")]) == 1
    assert "turn 3 of 2" in capsys.readouterr().err


def test_a_score_off_the_points_is_a_fault(source, tmp_path, capsys):
    convert(source, tmp_path / "tasks.json", "label-studio")
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    tasks[0]["annotations"] = [{"result": [{"from_name": "score", "value": {"number": 6}}]}]
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    assert main(["check", str(tmp_path / "export.json")]) == 1
    assert "score" in capsys.readouterr().out
